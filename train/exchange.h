/* What the processes of a run tell each other of its parameters: gradients before a step of the optimizer, weights after it. All
 * collective; nothing where the process is alone. Of memory that is the host's own it goes from there; between devices by the
 * backend itself where it can (NCCL), else through the host: gradients in bfloat16 are then added in float32 and rounded once. */
#ifndef KF_TRAIN_EXCHANGE_H
#define KF_TRAIN_EXCHANGE_H

#include "train/optim.h"

/* Before all else. */
kf_status kf_exchange_begin(kf_optim *opt, kf_err *err) KF_MUST_CHECK;
/* Of every gradient this process's part becomes the sum over the processes. */
kf_status kf_exchange_grads(kf_optim *opt, kf_err *err) KF_MUST_CHECK;
/* Of every value each process's part reaches all. Between devices it may only have been begun, and so may the optimizer's step before it. */
kf_status kf_exchange_weights(kf_optim *opt, kf_err *err) KF_MUST_CHECK;
/* All that was begun has ended well in every process: before anything is made of the weights but the next step. */
kf_status kf_exchange_settle(kf_optim *opt, kf_err *err) KF_MUST_CHECK;

/* What came of work between two exchanges in this process. What a device fails at shows in whatever waits for it next, and where devices
 * speak to each other (NCCL) the others may be waiting for this one inside theirs: they come to no agreement, so with KF_EIO, which is
 * returned, this process is lost to them, and says why it ends. */
kf_status kf_exchange_failed(kf_optim *opt, kf_status rc) KF_MUST_CHECK;

/* The float32 masters, which are in parts, for the process that writes the model (rank 0): it calls kf_exchange_master as a
 * kf_param_get, arg the kf_optim, and kf_exchange_masters_end when it is done, whatever came of it; the others meanwhile
 * kf_exchange_masters_serve. Only where kf_exchange_masters says that there are any. */
bool kf_exchange_masters(const kf_optim *opt);
kf_status kf_exchange_master(void *opt, int i, float *out, kf_err *err) KF_MUST_CHECK;
kf_status kf_exchange_masters_end(kf_optim *opt, kf_err *err) KF_MUST_CHECK;
kf_status kf_exchange_masters_serve(kf_optim *opt, kf_err *err) KF_MUST_CHECK;

#endif
