/* What the CPU backend keeps between calls beside scratch memory. */
#ifndef KF_OPS_CPU_STATE_H
#define KF_OPS_CPU_STATE_H

#include "common/ops/ops.h"

enum { KF_CPU_ROPES = 4 };

/* Cosines and sines of rotary positions, for one set of frequencies (norm.c). */
typedef struct {
	float *inv_freq;   /* (D/2) */
	float *table;      /* (n, D): D/2 cosines, D/2 sines */
	int D;             /* 0: unused */
	size_t n;          /* positions */
} kf_cpu_rope_table;

kf_cpu_rope_table *kf_cpu_rope_tables(kf_exec *x);   /* (KF_CPU_ROPES) */

#endif
