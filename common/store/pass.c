#include "common/store/pass.h"

#include <math.h>
#include <string.h>

#include "common/base/failure.h"
#include "common/base/progress.h"
#include "common/base/stop.h"

typedef enum { NOTHING, WRITE, COUNT } work; /* COUNT: read it for its statistics only */

typedef struct {
	const kf_pass *p;
	kf_tally *tally;           /* (shards) */
	work *todo;                /* (shards) */
	int shards_done;           /* under lock, as progress is */
	kf_failure failure;
	pthread_mutex_t lock;
	kf_progress progress;
} job;

/* ---- sums of a shard, kept with it: a list of [domain, number, …], in order ---- */

static json_t *number(double v)
{
	return v == floor(v) && fabs(v) < 9e15 ? json_integer((json_int_t)v) : json_real(v);
}

static json_t *sums_of(const kf_tally *t)
{
	json_t *list = json_array();

	for (int i = 0; list && i < t->n; i++) {
		const double *row = kf_tally_at(t, i);
		json_t *one = json_array();
		bool ok = one && json_array_append_new(one, json_string(t->name[i])) == 0;

		for (size_t k = 0; ok && k < t->width; k++) ok = json_array_append_new(one, number(row[k])) == 0;
		if (!ok) json_decref(one);
		if (ok && json_array_append_new(list, one) == 0) continue;
		json_decref(list); /* a name that is no UTF-8, a number that is none: the documents are read again when they are wanted */
		list = NULL;
	}
	return list;
}

/* false: no such sums. */
static bool tally_of(const json_t *sums, kf_tally *t)
{
	size_t i;
	json_t *one;

	if (!json_is_array(sums)) return false;
	json_array_foreach((json_t *)(uintptr_t)sums, i, one) {
		const char *name = json_string_value(json_array_get(one, 0));
		double *row = name && json_array_size(one) == t->width + 1 ? kf_tally_row(t, name) : NULL;
		bool ok = row != NULL;

		for (size_t k = 0; ok && k < t->width; k++) {
			ok = json_is_number(json_array_get(one, k + 1));
			row[k] = json_number_value(json_array_get(one, k + 1));
		}
		if (ok) continue;
		kf_tally_release(t);
		return false;
	}
	return true;
}

/* ---- shards ---- */

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

static kf_status commit(kf_shard_writer *out, const kf_tally *tally, kf_err *err)
{
	json_t *sums = sums_of(tally);

	kf_shard_keep_sums(out, sums);
	json_decref(sums);
	return kf_shard_commit(out, err);
}

static void one_shard(void *arg, size_t shard, int worker)
{
	job *j = arg;
	const kf_pass *p = j->p;
	int s = (int)shard;
	uint64_t docs = 0;
	kf_shard *in[KF_PASS_SETS] = { NULL };
	kf_shard_writer *out = NULL;
	kf_arena arena;
	kf_err err;
	kf_status rc;

	(void)worker;
	if (kf_failure_seen(&j->failure) || j->todo[s] == NOTHING) return;
	kf_arena_init(&arena);
	if ((rc = open_all(p, s, in, &err)) != KF_OK) goto out;
	if (j->todo[s] == WRITE && (rc = kf_shard_begin(p->out, s, &out, &err)) != KF_OK) goto out;
	for (;;) {
		uint64_t tokens = 0;

		/* writing looks by itself */
		if (!out && (rc = kf_stop_check(&err)) != KF_OK) break;
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
		rc = out ? commit(out, &j->tally[s], &err) : KF_OK;
		if (out) kf_tally_release(&j->tally[s]); /* it is kept with the shard: memory does not grow with their number */
		out = NULL;
	}
	/* what is wrong with a shard's file, of whichever set, names that */
	if (rc != KF_OK && !strstr(err.text, "/shard-")) kf_context(&err, rc, "shard %d of %s", s, kf_set_dir(p->in[0]));
	pthread_mutex_lock(&j->lock);
	kf_progress_shards(&j->progress, ++j->shards_done, 0);
	pthread_mutex_unlock(&j->lock);
out:
	if (rc != KF_OK) kf_failure_note(&j->failure, s, rc, &err);
	kf_shard_abandon(out);
	for (int i = 0; i < p->n_in; i++) kf_shard_close(in[i]);
	kf_arena_release(&arena);
}

/* All shards that have something to do, over all threads. */
static kf_status run(job *j, kf_pool *pool, const char *label, kf_err *err)
{
	const kf_set *in = j->p->in[0];
	int n = kf_set_shards(in), shards = 0;
	uint64_t docs = 0, all = kf_set_docs(in);

	for (int s = 0; s < n; s++) {
		if (j->todo[s] == NOTHING) continue;
		shards++;
		docs += kf_set_shard_docs(in, s);
	}
	j->shards_done = 0;
	kf_progress_start(&j->progress, label, "tokens", all ? (double)kf_set_tokens(in) * ((double)docs / (double)all) : 0,
		j->p->progress);
	kf_progress_shards(&j->progress, 0, shards);
	kf_pool_run(pool, (size_t)n, one_shard, j);
	kf_progress_end(&j->progress);
	if (j->failure.rc != KF_OK) *err = j->failure.err;
	return j->failure.rc;
}

/* Statistics from what is kept with the shards, in their order; of those that had to be read for it, from memory. *whole: all shards are
 * there; *again: of some nothing is kept (todo says which). A part looks after its last shard is there, so of those that run at
 * once the one that ends last finds all. */
static kf_status collect(job *j, kf_tally *total, bool *whole, bool *again, kf_err *err)
{
	kf_status rc = KF_OK;

	*whole = true;
	*again = false;
	for (int s = 0; s < kf_set_shards(j->p->in[0]) && rc == KF_OK; s++) {
		kf_tally one = { .width = total->width };
		json_t *sums = NULL;

		if (j->todo[s] == COUNT) {
			rc = kf_tally_add(total, &j->tally[s], err);
			continue;
		}
		rc = kf_set_shard_sums(j->p->out, s, &sums, err);
		if (rc == KF_ENOTFOUND) {
			*whole = false;
			return KF_OK;
		}
		j->todo[s] = NOTHING;
		if (rc == KF_OK && !tally_of(sums, &one)) {
			j->todo[s] = COUNT;
			*again = true;
		} else if (rc == KF_OK && !*again) {
			rc = kf_tally_add(total, &one, err);
		}
		kf_tally_release(&one);
		json_decref(sums);
	}
	return rc;
}

kf_status kf_pass_run(const kf_pass *p, kf_pool *pool, kf_tally *tally, bool *whole, kf_err *err)
{
	job j = { .p = p, .failure = KF_FAILURE, .lock = PTHREAD_MUTEX_INITIALIZER };
	kf_status rc = KF_OK;
	int n = kf_set_shards(p->in[0]);
	bool again = false;

	*whole = false;
	if (p->n_in > KF_PASS_SETS) return kf_fail(err, KF_EINVAL, "at most %d sets go into one", KF_PASS_SETS);
	j.tally = kf_zalloc((size_t)n, sizeof *j.tally);
	j.todo = kf_zalloc((size_t)n, sizeof *j.todo);
	if (!j.tally || !j.todo) {
		rc = kf_fail(err, KF_ENOMEM, "no memory for statistics");
		goto out;
	}
	for (int s = 0; s < n; s++) {
		j.tally[s].width = tally->width;
		if (!p->out) j.todo[s] = COUNT;
		else if (s % p->parts == p->part && !kf_set_shard_done(p->out, s)) j.todo[s] = WRITE;
	}
	if ((rc = run(&j, pool, p->label, err)) != KF_OK) goto out;
	*whole = true;
	if (p->out) {
		rc = collect(&j, tally, whole, &again, err);
		if (rc == KF_OK && *whole && again) {
			kf_tally_release(tally);
			if ((rc = run(&j, pool, "counting", err)) == KF_OK) rc = collect(&j, tally, whole, &again, err);
		}
	} else {
		for (int s = 0; s < n && rc == KF_OK; s++) rc = kf_tally_add(tally, &j.tally[s], err);
	}
	if (rc != KF_OK) *whole = false;
out:
	for (int s = 0; j.tally && s < n; s++) kf_tally_release(&j.tally[s]);
	kf_free(j.tally);
	kf_free(j.todo);
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
