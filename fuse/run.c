/* kf-fuse over shard sets. */
#include "common/base/opt.h"
#include "common/store/pass.h"
#include "fuse/fuse.h"

#include <string.h>

static kf_status one_document(void *arg, kf_shard *const *in, kf_shard_writer *out, kf_tally *stats, kf_arena *arena,
	uint64_t *tokens, kf_err *err)
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

/* ---- what the sets must have in common ---- */

static kf_status check_aligned(const kf_set *tgt, const kf_set *a, kf_err *err)
{
	const void *td, *ad;
	size_t tn, an;
	kf_fp fp;
	kf_status rc;

	if ((rc = kf_set_same_corpus(a, tgt, err)) != KF_OK) return rc;
	if ((rc = kf_set_tokenizer(tgt, &td, &tn, err)) != KF_OK || (rc = kf_set_tokenizer(a, &ad, &an, err)) != KF_OK) return rc;
	if (tn != an || memcmp(td, ad, tn) != 0)
		return kf_fail(err, KF_EMISMATCH, "%s was aligned to another tokenizer than that of %s: run kf-align with --target %s",
			kf_set_dir(a), kf_set_dir(tgt), kf_set_dir(tgt));
	if ((rc = kf_set_input_fp(a, "target", &fp, err)) != KF_OK) return rc;
	if (!kf_fp_equal(fp, kf_set_fp(tgt)))
		return kf_fail(err, KF_EMISMATCH, "%s was aligned to other logits of the target than %s: run kf-align again with --target %s",
			kf_set_dir(a), kf_set_dir(tgt), kf_set_dir(tgt));
	return KF_OK;
}

static const char *info_name(const kf_set *set, const char *key)
{
	json_t *info = kf_set_info(set);
	const char *name = info ? json_string_value(json_object_get(info, key)) : NULL;

	return name ? name : kf_set_dir(set);
}

/* Names for the report: the models', told apart by a number where one comes twice. */
static void name_models(const kf_fuse_opts *o, kf_set *const *set, char (*names)[128])
{
	int n = 0;

	if (o->how.with_target) snprintf(names[n++], sizeof *names, "%s", info_name(set[0], "model"));
	for (int i = 1; i <= o->n_aligned; i++, n++) {
		char name[100];
		int same = 1;

		snprintf(name, sizeof name, "%s", info_name(set[i], "source"));
		for (int k = 0; k < n; k++) {
			size_t len = strlen(name);

			same += strncmp(names[k], name, len) == 0 && (names[k][len] == '\0' || names[k][len] == '#');
		}
		if (same == 1) snprintf(names[n], sizeof *names, "%s", name);
		else snprintf(names[n], sizeof *names, "%s#%d", name, same);
	}
}

static json_t *stats_json(const kf_tally *tally, char (*names)[128], int models)
{
	const char *list[KF_FUSE_MODELS];

	for (int i = 0; i < models; i++) list[i] = names[i];
	return kf_fuse_stats_json(tally, list, models);
}

kf_status kf_fuse_run(const kf_fuse_opts *o, kf_pool *pool, kf_set_state *state, json_t **stats, kf_err *err)
{
	kf_set *set[KF_FUSE_MODELS] = { NULL };  /* target, sources */
	kf_set_writer *w = NULL;
	kf_set_input in[KF_FUSE_MODELS + 2];
	kf_set_spec spec = { .dir = o->out, .kind = KF_SET_TARGETS, .program = o->program, .options = o->record, .inputs = in };
	kf_pass pass = { .in = set, .n_in = 1 + o->n_aligned, .label = "fuse", .progress = o->progress, .doc = one_document,
		.arg = (void *)o };
	kf_tally tally = KF_TALLY(kf_fuse_stat);
	char names[KF_FUSE_MODELS][128];
	json_t *info = NULL, *list = NULL;
	int models = o->n_aligned + o->how.with_target;
	bool whole, complete;
	kf_status rc;

	*stats = NULL;
	*state = KF_SET_NEW;
	if (o->n_aligned < 0 || models < 1 || o->n_aligned >= KF_FUSE_MODELS)
		return kf_fail(err, KF_EINVAL, "give between 1 and %d sets with --aligned", KF_FUSE_MODELS - 1);
	if ((rc = kf_parse_shard(o->shard, &pass.part, &pass.parts, err)) != KF_OK) goto out;
	if ((rc = kf_set_open(o->target, KF_SET_LOGITS, &set[0], err)) != KF_OK) goto out;
	in[0] = (kf_set_input){ .role = "corpus", .name = "corpus" };
	if ((rc = kf_set_input_fp(set[0], "corpus", &in[0].fp, err)) != KF_OK) goto out;
	in[1] = (kf_set_input){ .role = "target", .name = o->target, .fp = kf_set_fp(set[0]) };
	spec.n_inputs = 2;
	for (int i = 1; i <= o->n_aligned; i++) {
		if ((rc = kf_set_open(o->aligned[i - 1], KF_SET_ALIGNED, &set[i], err)) != KF_OK) goto out;
		if ((rc = check_aligned(set[0], set[i], err)) != KF_OK) goto out;
		for (int k = 1; k < i; k++) {
			if (!kf_fp_equal(kf_set_fp(set[k]), kf_set_fp(set[i]))) continue;
			rc = kf_fail(err, KF_EINVAL, "--aligned %s and %s are the same set", o->aligned[k - 1], o->aligned[i - 1]);
			goto out;
		}
		in[spec.n_inputs++] = (kf_set_input){ .role = "source", .name = o->aligned[i - 1], .fp = kf_set_fp(set[i]) };
	}

	name_models(o, set, names);
	if (!(info = json_object()) || !(list = json_array())) goto nomem;
	for (int i = 0; i < models; i++)
		if (json_array_append_new(list, json_string(names[i])) != 0) goto nomem;
	if (json_object_set(info, "models", list) != 0) goto nomem;
	spec.info = info;
	spec.n_shards = kf_set_shards(set[0]);
	spec.f32 = o->precision ? o->precision == 2 : kf_set_f32(set[o->n_aligned ? 1 : 0]);
	if ((rc = kf_set_tokenizer(set[0], &spec.tokenizer, &spec.tokenizer_size, err)) != KF_OK) goto out;
	if ((rc = kf_set_begin(&spec, &w, state, err)) != KF_OK) goto out;
	if (*state == KF_SET_CURRENT) goto out;

	pass.out = w;
	if ((rc = kf_pass_run(&pass, pool, &tally, &whole, err)) != KF_OK) goto out;
	if (whole && !(*stats = stats_json(&tally, names, models))) goto nomem;
	rc = kf_set_commit(w, *stats, &complete, err);
	w = NULL;
	goto out;
nomem:
	rc = kf_fail(err, KF_ENOMEM, "no memory for the facts about %s (or a model's name is no UTF-8)", o->out);
out:
	kf_set_abandon(w);
	kf_tally_release(&tally);
	for (int i = 0; i < KF_FUSE_MODELS; i++) kf_set_close(set[i]);
	json_decref(list);
	json_decref(info);
	return rc;
}
