/* What was asked for: options that belong together, and the identity of what they make. */
#ifndef KF_MERGE_PLAN_H
#define KF_MERGE_PLAN_H

#include "merge/inputs.h"

#define KF_MERGE_NO_WEIGHT 1e-8   /* a sum of weights below it is 0 but for rounding: nothing is divided by it */

/* Whether a method is of changes from a pivot. */
static inline bool kf_merge_wants_pivot(kf_merge_method m)
{
	return m != KF_MERGE_LINEAR && m != KF_MERGE_SLERP;
}

/* Fill in how from the options; KF_EUSAGE for those that do not belong together. */
kf_status kf_merge_plan(const kf_merge_opts *o, kf_merge_how *how, kf_err *err) KF_MUST_CHECK;

/* {"program", "version", "options", "inputs"}: the options are those that shape what this method makes, as
 * they were resolved. A new reference. */
kf_status kf_merge_identity(const kf_merge_opts *o, const kf_merge_how *how, kf_dtype dtype,
	const kf_merge_inputs *in, kf_pool *pool, json_t **out, kf_err *err) KF_MUST_CHECK;

#endif
