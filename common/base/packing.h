/* What a file is packed by, by its first bytes. */
#ifndef KF_BASE_PACKING_H
#define KF_BASE_PACKING_H

#include <stddef.h>

typedef enum { KF_PACKING_NONE, KF_PACKING_GZIP, KF_PACKING_ZSTD } kf_packing;

/* p (n): how the file begins, 4 bytes or more where it has them. */
kf_packing kf_packing_of(const void *p, size_t n);

#endif
