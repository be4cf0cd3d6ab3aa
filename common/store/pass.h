/* A pass over sets of one corpus: shard i of every input, document by document, to shard i of the
 * output. Shards run on as many threads as there are; statistics are added up in the order of the shards, so
 * that nothing depends on threads.
 */
#ifndef KF_STORE_PASS_H
#define KF_STORE_PASS_H

#include "common/base/pool.h"
#include "common/base/tally.h"
#include "common/store/set.h"

#define KF_PASS_SETS 64

typedef struct {
	kf_set *const *in;         /* (n_in) with the same documents in the same shards: kf_set_same_corpus */
	int n_in;
	kf_set_writer *out;        /* borrowed; NULL: a pass that only reads */
	int part, parts;           /* --shard: shards s with s % parts == part are written */
	const char *label;         /* "align", of the progress bar */
	int progress;              /* KF_PROGRESS_* */
	/* One document: read it from every input, write it to out unless that is NULL (a shard that was finished before and keeps no
	 * statistics is read again for these only), count it in tally, and say how many tokens it has. KF_END when in[0] has no
	 * more. */
	kf_status (*doc)(void *arg, kf_shard *const *in, kf_shard_writer *out, kf_tally *tally, kf_arena *arena,
		uint64_t *tokens, kf_err *err);
	void *arg;                 /* shared by the threads */
} kf_pass;

/* Run it. The error is that of the first shard that failed; KF_ESTOPPED when the run was asked to end (stop.h). Every shard that
 * is written keeps its statistics with it (kf_shard_keep_sums).
 * *whole: every shard is there now, whichever run or part wrote it, and all of them are counted in tally (width set by the
 * caller); false after a part of an array job that is not the last, when tally is no use. */
kf_status kf_pass_run(const kf_pass *p, kf_pool *pool, kf_tally *tally, bool *whole, kf_err *err) KF_MUST_CHECK;

/* KF_EMISMATCH, with the names of both, unless two sets are of one corpus, shard for shard. */
kf_status kf_set_same_corpus(const kf_set *a, const kf_set *b, kf_err *err) KF_MUST_CHECK;

#endif
