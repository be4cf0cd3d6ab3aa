#include "common/store/pass.h"

#include "common/base/failure.h"
#include "common/base/progress.h"

typedef struct {
	const kf_pass *p;
	kf_tally *tally;           /* (shards) */
	bool whole;
	kf_failure failure;
	pthread_mutex_t lock;      /* of progress */
	kf_progress progress;
} job;

static bool done(const kf_pass *p, int shard)
{
	return !p->out || kf_set_shard_done(p->out, shard);
}

static kf_status open_all(const kf_pass *p, int shard, kf_shard **in, kf_err *err)
{
	for (int i = 0; i < p->n_in; i++) {
		kf_status rc = kf_shard_open(p->in[i], shard, &in[i], err);

		if (rc != KF_OK) return rc;
		if (kf_shard_docs(in[i]) != kf_shard_docs(in[0]))
			return kf_fail(err, KF_EMISMATCH, "shard %d of %s has %llu documents, of %s %llu: the sets are not of one corpus",
				shard, kf_set_dir(p->in[i]), (unsigned long long)kf_shard_docs(in[i]), kf_set_dir(p->in[0]),
				(unsigned long long)kf_shard_docs(in[0]));
	}
	return KF_OK;
}

static void one_shard(void *arg, size_t shard, int worker)
{
	job *j = arg;
	const kf_pass *p = j->p;
	int s = (int)shard;
	bool write = s % p->parts == p->part && !done(p, s);
	uint64_t docs = 0;
	kf_shard *in[KF_PASS_SETS] = { NULL };
	kf_shard_writer *out = NULL;
	kf_arena arena;
	kf_err err;
	kf_status rc;

	(void)worker;
	if (kf_failure_seen(&j->failure) || (!write && !j->whole)) return;
	kf_arena_init(&arena);
	if ((rc = open_all(p, s, in, &err)) != KF_OK) goto out;
	if (write && (rc = kf_shard_begin(p->out, s, &out, &err)) != KF_OK) goto out;
	for (;;) {
		uint64_t tokens = 0;

		if ((rc = p->doc(p->arg, in, out, &j->tally[s], &arena, &tokens, &err)) != KF_OK) break;
		docs++;
		kf_arena_reset(&arena);
		pthread_mutex_lock(&j->lock);
		kf_progress_add(&j->progress, (double)tokens);
		pthread_mutex_unlock(&j->lock);
		if (kf_failure_seen(&j->failure)) break;
	}
	if (rc == KF_END && docs < kf_shard_docs(in[0]))
		rc = kf_fail(&err, KF_EDATA, "it ends after %llu of %llu documents", (unsigned long long)docs,
			(unsigned long long)kf_shard_docs(in[0]));
	if (rc == KF_END) {
		rc = out ? kf_shard_commit(out, &err) : KF_OK;
		out = NULL;
	}
	if (rc != KF_OK) kf_context(&err, rc, "shard %d of %s", s, kf_set_dir(p->in[0]));
out:
	if (rc != KF_OK) kf_failure_note(&j->failure, s, rc, &err);
	kf_shard_abandon(out);
	for (int i = 0; i < p->n_in; i++) kf_shard_close(in[i]);
	kf_arena_release(&arena);
}

kf_status kf_pass_run(const kf_pass *p, kf_pool *pool, kf_tally *tally, bool *whole, kf_err *err)
{
	job j = { .p = p, .whole = true, .failure = KF_FAILURE, .lock = PTHREAD_MUTEX_INITIALIZER };
	kf_status rc;
	int n = kf_set_shards(p->in[0]);

	*whole = false;
	if (p->n_in > KF_PASS_SETS) return kf_fail(err, KF_EINVAL, "at most %d sets go into one", KF_PASS_SETS);
	for (int s = 0; s < n; s++)
		if (s % p->parts != p->part && !done(p, s)) j.whole = false;
	if (!(j.tally = kf_zalloc((size_t)n, sizeof *j.tally))) return kf_fail(err, KF_ENOMEM, "no memory for statistics");
	for (int s = 0; s < n; s++) j.tally[s].width = tally->width;
	kf_progress_start(&j.progress, p->label, "tokens", (double)kf_set_tokens(p->in[0]) / (j.whole ? 1 : p->parts),
		p->progress);
	kf_pool_run(pool, (size_t)n, one_shard, &j);
	kf_progress_end(&j.progress);
	if ((rc = j.failure.rc) != KF_OK) *err = j.failure.err;
	for (int s = 0; s < n; s++) {
		if (rc == KF_OK && j.whole) rc = kf_tally_add(tally, &j.tally[s], err);
		kf_tally_release(&j.tally[s]);
	}
	kf_free(j.tally);
	*whole = rc == KF_OK && j.whole;
	return rc;
}

kf_status kf_set_same_corpus(const kf_set *a, const kf_set *b, kf_err *err)
{
	kf_fp fa, fb;
	kf_status rc;

	if ((rc = kf_set_input_fp(a, "corpus", &fa, err)) != KF_OK) return rc;
	if ((rc = kf_set_input_fp(b, "corpus", &fb, err)) != KF_OK) return rc;
	if (!kf_fp_equal(fa, fb) || kf_set_shards(a) != kf_set_shards(b) || kf_set_docs(a) != kf_set_docs(b))
		return kf_fail(err, KF_EMISMATCH, "%s and %s were made from different corpora: run kf-extract for both on one corpus",
			kf_set_dir(a), kf_set_dir(b));
	return KF_OK;
}
