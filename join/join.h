/* kf-join: one set of parts that were made in different places.
 *
 * A part is a folder that a stage wrote: of an array job on another file system half a set, with manifest.part.json and
 * the shards of its --shard. Parts say by their manifests what they are made from; shards say it, too, each for itself. So the
 * result is checked to be what one run would have written: one corpus, model and options, every shard once, none damaged.
 *
 * Written is OUT as a stage writes it: shards under their names when they are whole, the manifest last; what is there of an
 * earlier, unfinished run is kept; a complete OUT of the same is up to date.
 */
#ifndef KF_JOIN_JOIN_H
#define KF_JOIN_JOIN_H

#include "common/store/set.h"

typedef struct {
	const char *out;
	const char *const *part;   /* (n_parts) parts, or folders of nothing but parts; OUT itself among them counts for nothing */
	int n_parts;
	bool copy;                 /* never hard links */
	bool replace;              /* a set of other parts in out is replaced */
	int progress;              /* KF_PROGRESS_* */
} kf_join_opts;

typedef struct {
	kf_set_state state;
	int shards, linked, copied;/* in all; taken by this run */
	bool unfinished;           /* the stage's next run on OUT adds its statistics to the manifest: */
	char program[32];          /* the stage's */
} kf_join_stats;

/* Errors: KF_EMISMATCH: parts of different sets, with what differs; a shard in two parts; KF_ENOTFOUND: shards that no part has, by their
 * numbers; KF_EDATA: a damaged shard, manifest or tokenizer, by name. But for damage found while shards are taken, a
 * failure leaves OUT as it was. */
kf_status kf_join(const kf_join_opts *o, kf_join_stats *stats, kf_err *err) KF_MUST_CHECK;

#endif
