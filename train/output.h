/* The folder a training run makes: whose it is, what may be done with it, and how it becomes whole.
 *
 *     OUT/config.json, *.safetensors, tokenizer files   the model, there only when training is done
 *     OUT/kfuse.json                                     what made it; with config.json, and none in state/, the mark of a finished run
 *     OUT/log.jsonl                                      a record a step and a validation
 *     OUT/epoch-N/                                       with --keep-epochs
 *     OUT/state/                                         while running: identity.json, checkpoints, models that
 *                                                        may be published (best-N/), kfuse.json once trained
 *
 * best-N/ is the model of epoch N. Which of them is the best a checkpoint says, and once trained kfuse.json: a model is there before
 * what names it is, and goes after.
 */
#ifndef KF_TRAIN_OUTPUT_H
#define KF_TRAIN_OUTPUT_H

#include <jansson.h>

#include "common/base/lock.h"
#include "train/train.h"

typedef enum {
	KF_OUT_NEW,        /* nothing there */
	KF_OUT_REPLACE,    /* a run that this one takes the place of, once kf_output_clear has been called */
	KF_OUT_STARTED,    /* the same run was here: continue from its checkpoint if it has one */
	KF_OUT_TRAINED,    /* the same run ended: publish */
	KF_OUT_CURRENT     /* finished: nothing to do; time stamps were refreshed */
} kf_out_state;

/* Look at OUT, make OUT/state and lock it, so that two runs do not write into each other's files; the caller drops the lock,
 * which may be none where there is nothing to do. identity: {"program": , "options": {...}, "inputs": {...}}. KF_EMISMATCH names what
 * differs from the run that was here, which is replaced all the same if it came to nothing yet, with restart and with replace; KF_EINVAL for a folder with
 * other things in it, or with the model that is to be trained; KF_ENOTFOUND with resume, where nothing is; KF_EBUSY where a run is at
 * work, which it names. */
kf_status kf_output_begin(const kf_train_opts *o, const json_t *identity, kf_out_state *state, kf_lock *lock, kf_err *err) KF_MUST_CHECK;

/* Take away the run of KF_OUT_REPLACE, and nothing else: when all has been checked that can be, and nothing but its steps may still end the
 * new one. */
kf_status kf_output_clear(const char *out, const json_t *identity, kf_err *err) KF_MUST_CHECK;

/* How many epochs OUT has the models of; *missing: of those before the last of them it has none. */
int kf_output_epochs(const char *out, int *missing);

/* path (KF_PATH_MAX) = STATE/best-EPOCH. */
kf_status kf_output_best(char *path, const char *state, int epoch, kf_err *err) KF_MUST_CHECK;
/* Whether a whole model is there. */
bool kf_output_has_best(const char *state, int epoch);
/* Remove the models of all epochs but these (n). */
kf_status kf_output_keep_best(const char *state, const int *epochs, int n, kf_err *err) KF_MUST_CHECK;

/* Move the files of the model that state/kfuse.json names into OUT, and that before config.json, the last. KF_EDATA where the model is neither
 * there nor in OUT. */
kf_status kf_output_publish(const char *out, kf_err *err) KF_MUST_CHECK;
/* What is left of a finished run in OUT/state: no model that might have been published, or (keep false) nothing. The lock is dropped then, and
 * a folder that is in somebody's use stays; without a lock state is not ours, and stays as it is. */
kf_status kf_output_end(const char *out, bool keep, kf_lock *lock, kf_err *err) KF_MUST_CHECK;

#endif
