/* Checkpoints of a training run: parameters, moments, and a JSON object with everything else
 * (step, epoch, best epoch, identity). One file each, and where several processes train a file more for the part of each of them;
 * whole or not there, checked by fingerprints when read; the last two are kept. How many processes wrote one does
 * not matter to those that read it. All is collective where opt has ranks. */
#ifndef KF_TRAIN_CHECKPOINT_H
#define KF_TRAIN_CHECKPOINT_H

#include <jansson.h>

#include "common/base/pool.h"
#include "train/optim.h"

/* Write DIR/step-NNNNNNNNN.ckpt, then remove all but the last two. state is rank 0's; DIR is the same folder for all. */
kf_status kf_checkpoint_write(const char *dir, int64_t step, json_t *state, const kf_optim *opt, kf_err *err) KF_MUST_CHECK;

/* Read the newest one that is whole into opt; *state is a new reference. KF_ENOTFOUND: there is none.
 * One that is damaged is passed over for the one before it. */
kf_status kf_checkpoint_read(const char *dir, kf_optim *opt, json_t **state, kf_err *err) KF_MUST_CHECK;

/* Remove a folder and what is in it; a missing one is no error. */
kf_status kf_remove_tree(const char *dir, kf_err *err) KF_MUST_CHECK;

#endif
