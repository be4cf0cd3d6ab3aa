/* Inside align/: where vocabulary maps come from. */
#ifndef KF_ALIGN_MAPS_H
#define KF_ALIGN_MAPS_H

#include "align/align.h"
#include "align/pairs.h"
#include "common/store/set.h"

/* What a map is to be made from. The sets are of one corpus and have these tokenizers. */
typedef struct {
	kf_align_map map;        /* KF_ALIGN_MINED or KF_ALIGN_STATS */
	bool cooccurrence;
	kf_set *source, *target;
	const kf_tokenizer *st, *tt;
	const char *source_name, *target_name;   /* of the models */
	const align_pairs *counted;              /* what align_count gives of the sets; NULL: not counted yet */
	int progress;            /* KF_PROGRESS_* */
} align_map_from;

const char *align_map_method(const align_map_from *from);   /* "mined", "mined co-occurrence", "stats" */
kf_status align_map_key(const align_map_from *from, kf_vocabmap_key *key, kf_err *err) KF_MUST_CHECK;

/* The map of `path` where that file is there, refused when it does not fit; *out NULL where it is not, or path is NULL.
 * any_corpus: text that was counted may be another. */
kf_status align_map_find(const char *path, const kf_vocabmap_key *key, bool any_corpus, kf_vocabmap **out, kf_err *err) KF_MUST_CHECK;

kf_status align_map_make(const align_map_from *from, kf_pool *pool, kf_vocabmap **out, kf_err *err) KF_MUST_CHECK;

#endif
