/* The ids of a block that its lists could not predict, numbered so that frequent ones have small numbers. */
#ifndef KF_STORE_IDTABLE_H
#define KF_STORE_IDTABLE_H

#include "common/store/planes.h"

/* misses (n ids) become their numbers; the table goes into the planes gaps and classes. */
kf_status kf_idtable_encode(uint32_t *misses, size_t n, kf_buf *gaps, kf_buf *classes, kf_err *err) KF_MUST_CHECK;
/* ids by number; in the arena. */
kf_status kf_idtable_decode(const kf_buf *gaps, const kf_buf *classes, kf_arena *arena, uint32_t **ids, uint32_t *n, kf_err *err) KF_MUST_CHECK;

#endif
