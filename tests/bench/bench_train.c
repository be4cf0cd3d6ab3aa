/* Training speed: STEPS optimizer steps of 4 x 512 tokens, random text.
 *
 *     bench_train MODEL [STEPS [MICRO_TOKENS [THREADS [KEEP_MB [f32|bf16]]]]]
 *
 * Prints one JSON object: tokens a second of each step, seconds by part, peak memory. */
#include <stdio.h>
#include <string.h>
#include <stdlib.h>
#include <sys/resource.h>

#include "common/base/progress.h"
#include "common/base/rng.h"
#include "train/data.h"
#include "train/optim.h"

#define SEQ 512
#define BATCH 4

static kf_status bench(const char *path, int steps, int micro, int threads, long keep_mb, kf_compute compute, kf_err *err)
{
	kf_model_opts opts = { .train = true, .keep_bytes = (size_t)keep_mb * 1000000 };
	kf_train_opts o = { .beta1 = 0.9, .beta2 = 0.95, .decay = 0.1 };
	static int32_t tokens[BATCH * SEQ], labels[BATCH * SEQ], offset[BATCH + 1], ids[BATCH * SEQ * 10];
	static uint32_t off[BATCH * SEQ + 1];
	static float q[BATCH * SEQ * 10];
	double t_model = 0, t_optim = 0, best = 0, first = 0;
	struct rusage use;
	kf_weights *w;
	kf_model *m;
	kf_pool *pool;
	kf_exec *x;
	kf_optim opt;
	kf_rng rng;
	kf_status rc;

	if ((rc = kf_pool_new(threads, &pool, err)) != KF_OK ||
	    (rc = kf_exec_new(&kf_ops_cpu, pool, compute, &x, err)) != KF_OK ||
	    (rc = kf_weights_open(path, &w, err)) != KF_OK || (rc = kf_model_new(w, x, &opts, &m, err)) != KF_OK ||
	    (rc = kf_optim_init(&opt, m, x, false, NULL, err)) != KF_OK)
		return rc;
	kf_rng_seed(&rng, 1);
	for (int i = 0; i < BATCH * SEQ; i++) {
		tokens[i] = (int32_t)kf_rng_below(&rng, (uint64_t)kf_weights_arch(w)->V);
		for (int j = 0; j < 10; j++) {
			ids[i * 10 + j] = (int32_t)((kf_rng_below(&rng, (uint64_t)kf_weights_arch(w)->V / 10) * 10 + (uint64_t)j));
			q[i * 10 + j] = 0.09f;
		}
	}
	for (int i = 0; i < BATCH * SEQ; i++)
		labels[i] = i % SEQ == SEQ - 1 ? -1 : tokens[i + 1];
	for (int s = 0; s < steps; s++) {
		double start = kf_now(), mid, norm;

		kf_model_zero_grad(m);
		for (int at = 0; at < BATCH * SEQ; at += micro) {
			int T = at + micro > BATCH * SEQ ? BATCH * SEQ - at : micro, S = 0;
			kf_loss_query lq;
			kf_batch b;
			kf_loss loss;

			for (offset[0] = 0; offset[S] < T; S++)
				offset[S + 1] = offset[S] + SEQ < T ? offset[S] + SEQ : T;
			for (int i = 0; i <= T; i++)
				off[i] = (uint32_t)i * 10;
			b = (kf_batch){ .T = T, .S = S, .tokens = tokens + at, .offset = offset };
			lq = (kf_loss_query){ .labels = labels + at, .off = off, .ids = ids + at * 10, .q = q + at * 10,
				.lambda = 0.9, .temperature = 1, .scale = 1 };
			if ((rc = kf_model_loss(m, &b, &lq, true, &loss, err)) != KF_OK)
				return rc;
		}
		mid = kf_now();
		if ((rc = kf_optim_norm(&opt, &norm, err)) != KF_OK)
			return rc;
		kf_optim_step(&opt, &o, 1e-5, norm > 0 ? 1e-3 : 0, s + 1);
		t_model += mid - start;
		t_optim += kf_now() - mid;
		if (s == 0)
			first = kf_now() - start;
		else if (best == 0 || kf_now() - start < best)
			best = kf_now() - start;
	}
	if (best == 0)
		best = first;
	getrusage(RUSAGE_SELF, &use);
	printf("{\"tool\": \"kfuse\", \"work\": \"train\", \"compute\": \"%s\", \"micro_tokens\": %d, \"tokens_per_second\": %.1f, "
		"\"mean_tokens_per_second\": %.1f, \"model_seconds\": %.2f, \"optimizer_seconds\": %.2f, \"peak_mb\": %.0f}\n",
		compute == KF_COMPUTE_BF16 ? "bf16" : "f32", micro, BATCH * SEQ / best, BATCH * SEQ * steps / (t_model + t_optim), t_model / steps, t_optim / steps,
		(double)use.ru_maxrss / 1e3 * 1.024);
	kf_optim_release(&opt);
	kf_model_free(m);
	kf_weights_close(w);
	kf_exec_free(x);
	kf_pool_free(pool);
	return KF_OK;
}

int main(int argc, char **argv)
{
	kf_err err = { 0 };

	if (argc < 2) {
		fprintf(stderr, "usage: bench_train MODEL [STEPS [MICRO_TOKENS [THREADS [KEEP_MB [f32|bf16]]]]]\n");
		return 2;
	}
	if (bench(argv[1], argc > 2 ? atoi(argv[2]) : 3, argc > 3 ? atoi(argv[3]) : 512, argc > 4 ? atoi(argv[4]) : 0,
	    argc > 5 ? atol(argv[5]) : 512, argc > 6 && strcmp(argv[6], "bf16") == 0 ? KF_COMPUTE_BF16 : KF_COMPUTE_F32, &err) != KF_OK) {
		fprintf(stderr, "bench_train: %s\n", err.text);
		return 1;
	}
	return 0;
}
