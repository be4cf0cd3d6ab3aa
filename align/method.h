/* Inside align/: the two methods. Each fills out's off, ids, lp, tail, which kf_align_doc
 * has allocated with room for every position's candidates and the label. */
#ifndef KF_ALIGN_METHOD_H
#define KF_ALIGN_METHOD_H

#include "align/path.h"

typedef struct {
	uint32_t *off;   /* (tn + 2) */
	int32_t *ids;
	float *lp;
	float *tail;     /* (tn + 1) */
	float *ce;       /* (tn) */
	uint32_t covered;/* positions with a label that have the source's distribution */
} align_out;

/* The most candidates any position of r has. */
uint32_t align_widest(const kf_logits_rec *r);


/* Fills out->ce, for either method. */
void align_ce(const align_path *p, align_out *out);
kf_status align_byte(kf_aligner *a, const align_path *p, const kf_logits_rec *tgt, kf_arena *arena, align_out *out,
	kf_err *err) KF_MUST_CHECK;
kf_status align_dtw(kf_aligner *a, const align_path *p, const kf_logits_rec *tgt, kf_arena *arena, align_out *out,
	kf_err *err) KF_MUST_CHECK;

#endif
