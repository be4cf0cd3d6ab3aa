/* kf-align over shard sets: shard i of the source and of the target to shard i of the output. */
#include "align/align.h"

#include <pthread.h>
#include <string.h>

#include "common/base/opt.h"
#include "common/base/progress.h"

typedef struct {
	const kf_align_opts *o;
	kf_set *src, *tgt;
	kf_set_writer *w;
	kf_aligner *aligner;
	int part, parts;            /* --shard */
	bool count_rest;            /* this part completes the set: count the finished shards for the statistics as well */
	kf_align_stats *stats;      /* (shards): added up in order at the end, so that sums do not depend on threads */
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

static kf_status one_document(job *j, kf_shard *src, kf_shard *tgt, kf_shard_writer *sw, int shard, kf_arena *arena,
	kf_err *err)
{
	kf_logits_rec t, s;
	kf_dist_rec out;
	kf_status rc;

	if ((rc = kf_shard_next_logits(tgt, arena, &t, err)) != KF_OK) return rc;
	rc = kf_shard_next_logits(src, arena, &s, err);
	if (rc == KF_END)
		return kf_fail(err, KF_EMISMATCH, "document %llu of %s is not in shard %d of %s: the sets are not of one corpus",
			(unsigned long long)t.head.doc, j->o->target, shard, j->o->source);
	if (rc != KF_OK) return rc;
	if ((rc = kf_align_doc(j->aligner, &s, &t, arena, &out, &j->stats[shard], err)) != KF_OK)
		return kf_context(err, rc, "%s, shard %d", j->o->source, shard);
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
	kf_shard *src = NULL, *tgt = NULL;
	kf_shard_writer *sw = NULL;
	kf_arena arena;
	kf_err err;
	kf_status rc;

	(void)worker;
	if (stopped(j) || (done || !mine ? !j->count_rest : false)) return;
	kf_arena_init(&arena);
	if ((rc = kf_shard_open(j->src, i, &src, &err)) != KF_OK) goto out;
	if ((rc = kf_shard_open(j->tgt, i, &tgt, &err)) != KF_OK) goto out;
	if (!done && mine && (rc = kf_shard_begin(j->w, i, &sw, &err)) != KF_OK) goto out;
	while ((rc = one_document(j, src, tgt, sw, i, &arena, &err)) == KF_OK) {
		kf_arena_reset(&arena);
		if (stopped(j)) goto out;
	}
	if (rc != KF_END) goto out;
	rc = KF_OK;
	if (kf_shard_docs(src) != kf_shard_docs(tgt)) {
		rc = kf_fail(&err, KF_EMISMATCH, "shard %d of %s has %llu documents, of %s %llu: the sets are not of one corpus", i,
			j->o->source, (unsigned long long)kf_shard_docs(src), j->o->target, (unsigned long long)kf_shard_docs(tgt));
		goto out;
	}
	if (sw) {
		rc = kf_shard_commit(sw, &err);
		sw = NULL;
	}
out:
	if (rc != KF_OK) fail(j, i, rc, &err);
	kf_shard_abandon(sw);
	kf_shard_close(tgt);
	kf_shard_close(src);
	kf_arena_release(&arena);
}

/* ---- what the two sets must have in common ---- */

static kf_status load_tokenizer(const kf_set *set, kf_tokenizer **out, kf_err *err)
{
	const void *data;
	size_t n;
	kf_status rc;

	if ((rc = kf_set_tokenizer(set, &data, &n, err)) != KF_OK) return rc;
	return kf_context(err, kf_tokenizer_load(data, n, out, err), "%s: its tokenizer", kf_set_dir(set));
}

static kf_status check_corpus(const kf_set *a, const kf_set *b, kf_fp *corpus, kf_err *err)
{
	kf_fp other;
	kf_status rc;

	if ((rc = kf_set_input_fp(a, "corpus", corpus, err)) != KF_OK || (rc = kf_set_input_fp(b, "corpus", &other, err)) != KF_OK)
		return rc;
	if (!kf_fp_equal(*corpus, other) || kf_set_shards(a) != kf_set_shards(b) || kf_set_docs(a) != kf_set_docs(b))
		return kf_fail(err, KF_EMISMATCH, "%s and %s were made from different corpora: run kf-extract for both on one corpus",
			kf_set_dir(a), kf_set_dir(b));
	return KF_OK;
}

/* What readers of the output want to know of the source: its model's name. */
static const char *model_name(const kf_set *set)
{
	json_t *info = kf_set_info(set);
	const char *name = info ? json_string_value(json_object_get(info, "model")) : NULL;

	return name ? name : kf_set_dir(set);
}

static kf_status run_shards(job *j, kf_pool *pool, json_t **stats, kf_err *err)
{
	int n = kf_set_shards(j->tgt);
	kf_align_stats all = { 0 };
	kf_status rc = KF_OK;
	bool complete;

	j->count_rest = true;
	for (int i = 0; i < n; i++)
		if (i % j->parts != j->part && !kf_set_shard_done(j->w, i)) j->count_rest = false;
	if (!(j->stats = kf_zalloc((size_t)n, sizeof *j->stats))) return kf_fail(err, KF_ENOMEM, "no memory for statistics");
	kf_progress_start(&j->progress, "align", "tokens", (double)kf_set_tokens(j->tgt) / (j->count_rest ? 1 : j->parts),
		j->o->progress);
	kf_pool_run(pool, (size_t)n, one_shard, j);
	kf_progress_end(&j->progress);
	if (j->rc != KF_OK) {
		*err = j->err;
		rc = j->rc;
	}
	for (int i = 0; i < n; i++) {
		if (rc == KF_OK) rc = kf_align_stats_add(&all, &j->stats[i], err);
		kf_align_stats_release(&j->stats[i]);
	}
	kf_free(j->stats);
	if (rc == KF_OK && j->count_rest && !(*stats = kf_align_stats_json(&all)))
		rc = kf_fail(err, KF_ENOMEM, "no memory for statistics");
	kf_align_stats_release(&all);
	if (rc != KF_OK) return rc;
	rc = kf_set_commit(j->w, *stats, &complete, err);
	j->w = NULL;
	return rc;
}

kf_status kf_align_run(const kf_align_opts *o, kf_pool *pool, kf_set_state *state, json_t **stats, kf_err *err)
{
	job j = { .o = o, .lock = PTHREAD_MUTEX_INITIALIZER };
	kf_tokenizer *st = NULL, *tt = NULL;
	kf_set_input in[3];
	kf_set_spec spec = { .dir = o->out, .kind = KF_SET_ALIGNED, .program = o->program, .options = o->record, .inputs = in,
		.n_inputs = 3 };
	json_t *info = NULL;
	kf_status rc;

	*stats = NULL;
	*state = KF_SET_NEW;
	if ((rc = kf_parse_shard(o->shard, &j.part, &j.parts, err)) != KF_OK) goto out;
	if ((rc = kf_set_open(o->source, KF_SET_LOGITS, &j.src, err)) != KF_OK) goto out;
	if ((rc = kf_set_open(o->target, KF_SET_LOGITS, &j.tgt, err)) != KF_OK) goto out;
	in[0] = (kf_set_input){ .role = "corpus", .name = "corpus" };
	if ((rc = check_corpus(j.src, j.tgt, &in[0].fp, err)) != KF_OK) goto out;
	in[1] = (kf_set_input){ .role = "source", .name = o->source, .fp = kf_set_fp(j.src) };
	in[2] = (kf_set_input){ .role = "target", .name = o->target, .fp = kf_set_fp(j.tgt) };
	if ((rc = load_tokenizer(j.src, &st, err)) != KF_OK || (rc = load_tokenizer(j.tgt, &tt, err)) != KF_OK) goto out;
	if ((rc = kf_aligner_new(st, tt, o->method, o->map, &j.aligner, err)) != KF_OK) goto out;

	if (!(info = json_pack("{s:s,s:s}", "source", model_name(j.src), "target", model_name(j.tgt)))) {
		rc = kf_fail(err, KF_ENOMEM, "no memory for the facts about %s (or its name is no UTF-8)", o->out);
		goto out;
	}
	spec.info = info;
	spec.n_shards = kf_set_shards(j.tgt);
	spec.f32 = o->precision ? o->precision == 2 : kf_set_f32(j.src);
	if ((rc = kf_set_tokenizer(j.tgt, &spec.tokenizer, &spec.tokenizer_size, err)) != KF_OK) goto out;
	if ((rc = kf_set_begin(&spec, &j.w, state, err)) != KF_OK) goto out;
	if (*state == KF_SET_CURRENT) goto out;
	rc = run_shards(&j, pool, stats, err);
out:
	kf_set_abandon(j.w);
	kf_aligner_free(j.aligner);
	kf_tokenizer_free(tt);
	kf_tokenizer_free(st);
	kf_set_close(j.tgt);
	kf_set_close(j.src);
	json_decref(info);
	return rc;
}
