/* The sets that a fusion reads: the target's logits and what is aligned to them. */
#ifndef KF_FUSE_INPUTS_H
#define KF_FUSE_INPUTS_H

#include "common/store/set.h"
#include "fuse/weights.h"

typedef struct {
	kf_set *set[KF_FUSE_MODELS];         /* target, sources */
	int n;                               /* of them */
	int models;                          /* the target, where it takes part, and the sources */
	char name[KF_FUSE_MODELS][128];      /* (models) told apart by a number where one comes twice */
	const char *names[KF_FUSE_MODELS];   /* the same */
	bool alike;                          /* one did */
} kf_fuse_inputs;

/* Open and check that they belong together: one corpus, aligned to these very logits, none twice. */
kf_status kf_fuse_inputs_open(kf_fuse_inputs *in, const char *target, const char *const *aligned,
	int n_aligned, bool with_target, kf_err *err) KF_MUST_CHECK;
/* KF_EINVAL where names do not tell the models apart, in whatever order they are given. */
kf_status kf_fuse_inputs_by_name(const kf_fuse_inputs *in, kf_err *err) KF_MUST_CHECK;
void kf_fuse_inputs_close(kf_fuse_inputs *in);     /* also after a failed open */

#endif
