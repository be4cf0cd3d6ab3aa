/* Inside align/: counting what alignment kept. */
#ifndef KF_ALIGN_STATS_H
#define KF_ALIGN_STATS_H

#include <stdio.h>

#include "align/align.h"

/* The item of a domain, made when missing; valid until the next get. */
kf_status align_stats_get(kf_align_stats *s, const char *domain, kf_align_stat **out, kf_err *err) KF_MUST_CHECK;
/* Count a record; covered: positions with a label that have the source's own distribution. */
kf_status align_stats_doc(kf_align_stats *stats, const kf_dist_rec *r, uint32_t covered, kf_err *err) KF_MUST_CHECK;

#endif
