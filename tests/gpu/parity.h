/* Parity of a backend with the CPU's: every op on random numbers, and whole models forward and backward. make gpu-check
 * runs it on a device, the tests on the launch emulator (tests/emu).
 *
 * Both sides get the same numbers: where the backend stores bfloat16, those that it can hold. An error is the largest difference
 * over the largest number (never below 1e-6); what is allowed grows with the backend's numbers. */
#ifndef KF_TESTS_GPU_PARITY_H
#define KF_TESTS_GPU_PARITY_H

#include "common/base/rng.h"
#include "common/ops/ops.h"

typedef struct kf_parity {
	kf_exec *x[2];               /* the CPU's (float32), and the other */
	kf_rng rng;
	int rows;                    /* of a batch, about */
	/* Told of every comparison. error is NAN where something failed, and why says what. */
	void (*report)(struct kf_parity *p, const char *name, double error, double allowed, const char *why);
	void *arg;
	int done, failed;
} kf_parity;

void kf_parity_ops(kf_parity *p);

/* The model in the folder dir, called name in the report: hidden states, the head's answers, loss, and the gradient of
 * every parameter. */
void kf_parity_model(kf_parity *p, const char *dir, const char *name);

/* The models of the tests, in tests/models. */
extern const char *const kf_parity_models[];
extern const int kf_parity_n_models;

/* For parity*.c: one comparison. */
void kf_parity_note(kf_parity *p, const char *name, double error, double allowed, const char *why);
double kf_parity_error(const float *got, const float *want, size_t n);
/* float32: sums in another order; bfloat16: that many roundings. */
double kf_parity_allowed(const kf_parity *p, double f32, double bf16);

#endif
