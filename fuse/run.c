/* kf-fuse over shard sets. */
#include "common/base/opt.h"
#include "common/store/pass.h"
#include "fuse/fuse.h"
#include "fuse/inputs.h"

static kf_status one_document(void *arg, kf_shard *const *in, kf_shard_writer *out, kf_tally *stats,
	kf_arena *arena, uint64_t *tokens, kf_err *err)
{
	const kf_fuse_opts *o = arg;
	kf_logits_rec t;
	kf_dist_rec a[KF_FUSE_MODELS], fused;
	kf_fuse_tally tally;
	kf_status rc;

	if ((rc = kf_shard_next_logits(in[0], arena, &t, err)) != KF_OK) return rc;
	for (int i = 0; i < o->n_aligned; i++)
		if ((rc = kf_shard_next_dist(in[1 + i], arena, &a[i], err)) != KF_OK) return rc;
	if ((rc = kf_fuse_doc(&o->how, &t, a, o->n_aligned, arena, &fused, &tally, err)) != KF_OK) return rc;
	if ((rc = kf_fuse_stats_doc(stats, t.head.domain, &tally, err)) != KF_OK) return rc;
	*tokens = t.n;
	return out ? kf_shard_put_dist(out, &fused, err) : KF_OK;
}

/* Where the weights come from a file: its table, and what it adds to the output's identity. */
static kf_status read_table(const kf_fuse_opts *o, const kf_fuse_inputs *in, kf_fuse_table *table,
	kf_set_spec *spec, kf_set_input *inputs, kf_err *err)
{
	kf_fp corpus;
	kf_status rc;

	if ((rc = kf_fuse_inputs_by_name(in, err)) != KF_OK || (rc = kf_fuse_table_read(o->weights, in->names, in->models, table, err)) != KF_OK) return rc;
	if ((rc = kf_set_input_fp(in->set[0], "corpus", &corpus, err)) != KF_OK) return rc;
	if (table->fitted && kf_fp_equal(table->corpus, corpus) && !o->same_text)
		return kf_fail(err, KF_EMISMATCH,
			"the weights in %s were fitted to the very text of %s, on which a model that has seen it gets "
			"more weight than it deserves: fit them to validation text, or say --same-text",
			o->weights, o->target);
	inputs[spec->n_inputs++] = (kf_set_input){ .role = "weights", .name = o->weights, .fp = table->fp };
	return KF_OK;
}

static json_t *names_json(const kf_fuse_inputs *in)
{
	json_t *list = json_array();

	for (int i = 0; i < in->models; i++) {
		if (json_array_append_new(list, json_string(in->names[i])) == 0) continue;
		json_decref(list);
		return NULL;
	}
	return list;
}

/* What the choice of weights has seen of the labels that the fused ce speaks of. */
static const char *hindsight(const kf_fuse_how *how)
{
	if (how->function >= KF_FUSE_DOMAIN) return "none";
	return how->level == KF_FUSE_BY_TOKEN ? "label" : "document";
}

static json_t *stats_json(const kf_fuse_opts *o, const kf_tally *tally, const kf_fuse_inputs *in)
{
	json_t *stats = kf_fuse_stats_json(tally, in->names, in->models);

	if (stats && json_object_set_new(stats, "hindsight", json_string(hindsight(&o->how))) == 0) return stats;
	json_decref(stats);
	return NULL;
}

kf_status kf_fuse_run(const kf_fuse_opts *opts, kf_pool *pool, kf_set_state *state, json_t **stats,
	kf_err *err)
{
	kf_fuse_opts o = *opts;
	kf_fuse_inputs in = { .n = 0 };
	kf_fuse_table table = { .n = 0 };
	kf_set_writer *w = NULL;
	kf_set_input inputs[KF_FUSE_MODELS + 3];
	kf_set_spec spec = { .dir = o.out, .kind = KF_SET_TARGETS, .program = o.program, .options = o.record,
		.replace = o.replace, .inputs = inputs };
	kf_pass pass = { .in = in.set, .label = "fuse", .progress = o.progress, .doc = one_document, .arg = &o };
	kf_tally tally = KF_TALLY(kf_fuse_stat);
	json_t *template;
	bool whole, complete;
	kf_status rc;

	*stats = NULL;
	*state = KF_SET_NEW;
	if ((rc = kf_parse_part("shard", o.shard, &pass.part, &pass.parts, err)) != KF_OK) return rc;
	if ((rc = kf_fuse_inputs_open(&in, o.target, o.aligned, o.n_aligned, o.how.with_target, err)) != KF_OK)
		goto out;
	pass.n_in = in.n;
	inputs[0] = (kf_set_input){ .role = "corpus", .name = "corpus" };
	if ((rc = kf_set_input_fp(in.set[0], "corpus", &inputs[0].fp, err)) != KF_OK) goto out;
	inputs[1] = (kf_set_input){ .role = "target", .name = o.target, .fp = kf_set_fp(in.set[0]) };
	spec.n_inputs = 2;
	for (int i = 1; i < in.n; i++)
		inputs[spec.n_inputs++] =
			(kf_set_input){ .role = "source", .name = o.aligned[i - 1], .fp = kf_set_fp(in.set[i]) };
	if (o.weights) {
		if ((rc = read_table(&o, &in, &table, &spec, inputs, err)) != KF_OK) goto out;
		o.how.table = &table;
	}

	if (!(spec.info = json_pack("{s:o}", "models", names_json(&in)))) goto nomem;
	if ((template = json_object_get(kf_set_info(in.set[0]), "chat_template")) &&
	    json_object_set(spec.info, "chat_template", template) != 0)
		goto nomem;
	spec.n_shards = kf_set_shards(in.set[0]);
	spec.part = pass.part;
	spec.parts = pass.parts;
	spec.chat = kf_set_chat(in.set[0]);
	spec.f32 = o.precision ? o.precision == 2 : kf_set_f32(in.set[in.n > 1 ? 1 : 0]);
	if ((rc = kf_set_tokenizer(in.set[0], &spec.tokenizer, &spec.tokenizer_size, err)) != KF_OK) goto out;
	if ((rc = kf_set_begin(&spec, &w, state, err)) != KF_OK) goto out;
	if (*state == KF_SET_CURRENT) goto out;

	pass.out = w;
	if ((rc = kf_pass_run(&pass, pool, &tally, &whole, err)) != KF_OK) goto out;
	if (whole && !(*stats = stats_json(&o, &tally, &in))) goto nomem;
	if (whole) rc = kf_set_commit(w, *stats, &complete, err);
	else kf_set_leave(w);
	w = NULL;
	goto out;
nomem:
	rc = kf_fail(err, KF_ENOMEM, "no memory for the facts about %s (or a model's name is no UTF-8)", o.out);
out:
	kf_set_abandon(w);
	kf_tally_release(&tally);
	kf_fuse_table_release(&table);
	kf_fuse_inputs_close(&in);
	json_decref(spec.info);
	return rc;
}
