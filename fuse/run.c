/* kf-fuse over shard sets: shard i of the target and of every aligned set to shard i of the output. */
#include "fuse/fuse.h"

#include <pthread.h>
#include <stdio.h>
#include <string.h>

#include "common/base/opt.h"
#include "common/base/progress.h"

typedef struct {
	const kf_fuse_opts *o;
	kf_set *tgt, *src[KF_FUSE_MODELS];
	kf_set_writer *w;
	int part, parts;            /* --shard */
	bool count_rest;            /* this part completes the set: count the finished shards for the statistics as well */
	kf_fuse_stats *stats;       /* (shards): added up in order at the end, so that sums do not depend on threads */
	pthread_mutex_t lock;       /* of what follows */
	kf_progress progress;
	kf_status rc;               /* of the first failed shard */
	int failed;
	kf_err err;
} job;

static void fail(job *j, int shard, kf_status rc, const kf_err *err)
{
	pthread_mutex_lock(&j->lock);
	if (j->rc == KF_OK || shard < j->failed) {
		j->rc = rc;
		j->failed = shard;
		j->err = *err;
	}
	pthread_mutex_unlock(&j->lock);
}

static bool stopped(job *j)
{
	bool stop;

	pthread_mutex_lock(&j->lock);
	stop = j->rc != KF_OK;
	pthread_mutex_unlock(&j->lock);
	return stop;
}

static kf_status one_document(job *j, kf_shard *tgt, kf_shard **src, kf_shard_writer *sw, int shard, kf_arena *arena,
	kf_err *err)
{
	kf_logits_rec t;
	kf_dist_rec a[KF_FUSE_MODELS], out;
	kf_fuse_tally tally;
	kf_status rc;

	if ((rc = kf_shard_next_logits(tgt, arena, &t, err)) != KF_OK) return rc;
	for (int i = 0; i < j->o->n_aligned; i++) {
		rc = kf_shard_next_dist(src[i], arena, &a[i], err);
		if (rc == KF_END)
			return kf_fail(err, KF_EMISMATCH, "document %llu of %s is not in shard %d of %s", (unsigned long long)t.head.doc,
				j->o->target, shard, j->o->aligned[i]);
		if (rc != KF_OK) return rc;
	}
	if ((rc = kf_fuse_doc(&j->o->how, &t, a, j->o->n_aligned, arena, &out, &tally, err)) != KF_OK)
		return kf_context(err, rc, "%s, shard %d", j->o->target, shard);
	if ((rc = kf_fuse_stats_doc(&j->stats[shard], t.head.domain, &tally, err)) != KF_OK) return rc;
	if (sw && (rc = kf_shard_put_dist(sw, &out, err)) != KF_OK) return rc;
	pthread_mutex_lock(&j->lock);
	kf_progress_add(&j->progress, t.n);
	pthread_mutex_unlock(&j->lock);
	return KF_OK;
}

static void one_shard(void *arg, size_t shard, int worker)
{
	job *j = arg;
	int i = (int)shard;
	bool done = kf_set_shard_done(j->w, i), mine = i % j->parts == j->part;
	kf_shard *tgt = NULL, *src[KF_FUSE_MODELS] = { NULL };
	kf_shard_writer *sw = NULL;
	kf_arena arena;
	kf_err err;
	kf_status rc;

	(void)worker;
	if (stopped(j) || (done || !mine ? !j->count_rest : false)) return;
	kf_arena_init(&arena);
	if ((rc = kf_shard_open(j->tgt, i, &tgt, &err)) != KF_OK) goto out;
	for (int s = 0; s < j->o->n_aligned; s++)
		if ((rc = kf_shard_open(j->src[s], i, &src[s], &err)) != KF_OK) goto out;
	if (!done && mine && (rc = kf_shard_begin(j->w, i, &sw, &err)) != KF_OK) goto out;
	while ((rc = one_document(j, tgt, src, sw, i, &arena, &err)) == KF_OK) {
		kf_arena_reset(&arena);
		if (stopped(j)) goto out;
	}
	if (rc != KF_END) goto out;
	rc = KF_OK;
	if (sw) {
		rc = kf_shard_commit(sw, &err);
		sw = NULL;
	}
out:
	if (rc != KF_OK) fail(j, i, rc, &err);
	kf_shard_abandon(sw);
	for (int s = 0; s < j->o->n_aligned; s++) kf_shard_close(src[s]);
	kf_shard_close(tgt);
	kf_arena_release(&arena);
}

/* ---- what the sets must have in common ---- */

static kf_status check_aligned(const kf_set *tgt, const kf_set *a, kf_err *err)
{
	const void *td, *ad;
	size_t tn, an;
	kf_fp fp, corpus, other;
	kf_status rc;

	if ((rc = kf_set_input_fp(a, "corpus", &other, err)) != KF_OK || (rc = kf_set_input_fp(tgt, "corpus", &corpus, err)) != KF_OK)
		return rc;
	if (!kf_fp_equal(corpus, other))
		return kf_fail(err, KF_EMISMATCH, "%s is of another corpus than %s", kf_set_dir(a), kf_set_dir(tgt));
	if ((rc = kf_set_tokenizer(tgt, &td, &tn, err)) != KF_OK || (rc = kf_set_tokenizer(a, &ad, &an, err)) != KF_OK) return rc;
	if (tn != an || memcmp(td, ad, tn) != 0)
		return kf_fail(err, KF_EMISMATCH, "%s was aligned to another tokenizer than that of %s: run kf-align with --target %s",
			kf_set_dir(a), kf_set_dir(tgt), kf_set_dir(tgt));
	if ((rc = kf_set_input_fp(a, "target", &fp, err)) != KF_OK) return rc;
	if (!kf_fp_equal(fp, kf_set_fp(tgt)))
		return kf_fail(err, KF_EMISMATCH, "%s was aligned to other logits of the target than %s: run kf-align again with --target %s",
			kf_set_dir(a), kf_set_dir(tgt), kf_set_dir(tgt));
	if (kf_set_shards(a) != kf_set_shards(tgt) || kf_set_docs(a) != kf_set_docs(tgt))
		return kf_fail(err, KF_EMISMATCH, "%s has %d shards and %llu documents, %s %d and %llu", kf_set_dir(a), kf_set_shards(a),
			(unsigned long long)kf_set_docs(a), kf_set_dir(tgt), kf_set_shards(tgt), (unsigned long long)kf_set_docs(tgt));
	return KF_OK;
}

static const char *info_name(const kf_set *set, const char *key)
{
	json_t *info = kf_set_info(set);
	const char *name = info ? json_string_value(json_object_get(info, key)) : NULL;

	return name ? name : kf_set_dir(set);
}

/* Names for the report: the models', told apart by a number where one comes twice. */
static void name_models(const job *j, char (*names)[128])
{
	int n = 0;

	if (j->o->how.with_target) snprintf(names[n++], sizeof *names, "%s", info_name(j->tgt, "model"));
	for (int i = 0; i < j->o->n_aligned; i++, n++) {
		char name[100];
		int same = 1;

		snprintf(name, sizeof name, "%s", info_name(j->src[i], "source"));
		for (int k = 0; k < n; k++) {
			size_t len = strlen(name);

			same += strncmp(names[k], name, len) == 0 && (names[k][len] == '\0' || names[k][len] == '#');
		}
		if (same == 1) snprintf(names[n], sizeof *names, "%s", name);
		else snprintf(names[n], sizeof *names, "%s#%d", name, same);
	}
}

static kf_status run_shards(job *j, kf_pool *pool, json_t **stats, kf_err *err)
{
	int n = kf_set_shards(j->tgt);
	char names[KF_FUSE_MODELS][128];
	const char *list[KF_FUSE_MODELS];
	kf_fuse_stats all = { 0 };
	kf_status rc = KF_OK;
	bool complete;

	j->count_rest = true;
	for (int i = 0; i < n; i++)
		if (i % j->parts != j->part && !kf_set_shard_done(j->w, i)) j->count_rest = false;
	if (!(j->stats = kf_zalloc((size_t)n, sizeof *j->stats))) return kf_fail(err, KF_ENOMEM, "no memory for statistics");
	kf_progress_start(&j->progress, "fuse", "tokens", (double)kf_set_tokens(j->tgt) / (j->count_rest ? 1 : j->parts),
		j->o->progress);
	kf_pool_run(pool, (size_t)n, one_shard, j);
	kf_progress_end(&j->progress);
	if (j->rc != KF_OK) {
		*err = j->err;
		rc = j->rc;
	}
	for (int i = 0; i < n; i++) {
		if (rc == KF_OK) rc = kf_fuse_stats_add(&all, &j->stats[i], err);
		kf_fuse_stats_release(&j->stats[i]);
	}
	kf_free(j->stats);
	if (rc == KF_OK && j->count_rest) {
		name_models(j, names);
		for (int i = 0; i < KF_FUSE_MODELS; i++) list[i] = names[i];
		if (!(*stats = kf_fuse_stats_json(&all, list, j->o->n_aligned + j->o->how.with_target)))
			rc = kf_fail(err, KF_ENOMEM, "no memory for statistics (or a model's name is no UTF-8)");
	}
	kf_fuse_stats_release(&all);
	if (rc != KF_OK) return rc;
	rc = kf_set_commit(j->w, *stats, &complete, err);
	j->w = NULL;
	return rc;
}

kf_status kf_fuse_run(const kf_fuse_opts *o, kf_pool *pool, kf_set_state *state, json_t **stats, kf_err *err)
{
	job j = { .o = o, .lock = PTHREAD_MUTEX_INITIALIZER };
	kf_set_input in[KF_FUSE_MODELS + 2];
	kf_set_spec spec = { .dir = o->out, .kind = KF_SET_TARGETS, .program = o->program, .options = o->record, .inputs = in };
	char names[KF_FUSE_MODELS][128];
	json_t *info = NULL, *list = NULL;
	kf_status rc;

	*stats = NULL;
	*state = KF_SET_NEW;
	if (o->n_aligned < 0 || o->n_aligned + o->how.with_target < 1 || o->n_aligned >= KF_FUSE_MODELS)
		return kf_fail(err, KF_EINVAL, "give between 1 and %d sets with --aligned", KF_FUSE_MODELS - 1);
	if ((rc = kf_parse_shard(o->shard, &j.part, &j.parts, err)) != KF_OK) goto out;
	if ((rc = kf_set_open(o->target, KF_SET_LOGITS, &j.tgt, err)) != KF_OK) goto out;
	in[0] = (kf_set_input){ .role = "corpus", .name = "corpus" };
	if ((rc = kf_set_input_fp(j.tgt, "corpus", &in[0].fp, err)) != KF_OK) goto out;
	in[1] = (kf_set_input){ .role = "target", .name = o->target, .fp = kf_set_fp(j.tgt) };
	spec.n_inputs = 2;
	for (int i = 0; i < o->n_aligned; i++) {
		if ((rc = kf_set_open(o->aligned[i], KF_SET_ALIGNED, &j.src[i], err)) != KF_OK) goto out;
		if ((rc = check_aligned(j.tgt, j.src[i], err)) != KF_OK) goto out;
		for (int k = 0; k < i; k++) {
			if (!kf_fp_equal(kf_set_fp(j.src[k]), kf_set_fp(j.src[i]))) continue;
			rc = kf_fail(err, KF_EINVAL, "--aligned %s and %s are the same set", o->aligned[k], o->aligned[i]);
			goto out;
		}
		in[spec.n_inputs++] = (kf_set_input){ .role = "source", .name = o->aligned[i], .fp = kf_set_fp(j.src[i]) };
	}

	name_models(&j, names);
	if (!(info = json_object()) || !(list = json_array())) goto nomem;
	for (int i = 0; i < o->n_aligned + o->how.with_target; i++)
		if (json_array_append_new(list, json_string(names[i])) != 0) goto nomem;
	if (json_object_set(info, "models", list) != 0) goto nomem;
	spec.info = info;
	spec.n_shards = kf_set_shards(j.tgt);
	spec.f32 = o->precision ? o->precision == 2 : kf_set_f32(o->n_aligned ? j.src[0] : j.tgt);
	if ((rc = kf_set_tokenizer(j.tgt, &spec.tokenizer, &spec.tokenizer_size, err)) != KF_OK) goto out;
	if ((rc = kf_set_begin(&spec, &j.w, state, err)) != KF_OK) goto out;
	if (*state == KF_SET_CURRENT) goto out;
	rc = run_shards(&j, pool, stats, err);
	goto out;
nomem:
	rc = kf_fail(err, KF_ENOMEM, "no memory for the facts about %s (or a model's name is no UTF-8)", o->out);
out:
	kf_set_abandon(j.w);
	for (int i = 0; i < o->n_aligned; i++) kf_set_close(j.src[i]);
	kf_set_close(j.tgt);
	json_decref(list);
	json_decref(info);
	return rc;
}
