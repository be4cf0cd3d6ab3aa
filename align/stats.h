/* Inside align/: counting what alignment kept. */
#ifndef KF_ALIGN_STATS_H
#define KF_ALIGN_STATS_H

#include "align/align.h"

/* Count a record; covered: positions with a label that have the source's own distribution. */
kf_status align_stats_doc(kf_tally *stats, const kf_dist_rec *r, uint32_t covered, kf_err *err) KF_MUST_CHECK;

#endif
