/* Parity of the CUDA backend with the CPU's, on a device: every op and every architecture, in float32 and in bfloat16.
 * Prints JSON, and every comparison that failed on stderr. check [quick]: ops on small arrays only, for compute-sanitizer. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "common/ops/backend.h"
#include "common/ops/cuda/cuda.h"
#include "tests/gpu/parity.h"

typedef struct {
	bool first;
	double worst;            /* error over what is allowed */
	char name[200];
} run;

static void report(kf_parity *p, const char *name, double error, double allowed, const char *why)
{
	run *r = p->arg;

	if (!(error <= allowed)) {
		fprintf(stderr, "not ok %s: off by %.3g, allowed %.3g%s%s\n", name, error, allowed, why ? ": " : "", why ? why : "");
		printf("%s{\"what\": \"%s\", \"error\": %s%.4g%s, \"allowed\": %.4g}", r->first ? "" : ", ", name, isfinite(error) ? "" : "\"",
			error, isfinite(error) ? "" : "\"", allowed);
		r->first = false;
	} else if (allowed > 0 && error / allowed > r->worst) {
		r->worst = error / allowed;
		snprintf(r->name, sizeof r->name, "%s", name);
	}
}

static int check(kf_exec *cpu, kf_exec *dev, const char *compute, bool quick)
{
	run r = { .first = true };
	kf_parity p = { .x = { cpu, dev }, .rows = 40, .report = report, .arg = &r };
	char dir[200];

	kf_rng_seed(&p.rng, 1);
	printf("  \"%s\": {\"failed\": [", compute);
	kf_parity_ops(&p);
	if (!quick) {
		p.rows = 1500;
		kf_parity_ops(&p);
		p.rows = 300;
		for (int i = 0; i < kf_parity_n_models; i++) {
			snprintf(dir, sizeof dir, "tests/models/%s", kf_parity_models[i]);
			kf_parity_model(&p, dir, kf_parity_models[i]);
		}
	}
	printf("], \"comparisons\": %d, \"nearest_to_its_limit\": \"%s\", \"share_of_it\": %.3f}", p.done, r.name, r.worst);
	fprintf(stderr, "%s: %d comparisons, %d failed\n", compute, p.done, p.failed);
	return p.failed;
}

int main(int argc, char **argv)
{
	static const struct { const char *name; kf_compute compute; } ways[] = { { "f32", KF_COMPUTE_F32 }, { "bf16", KF_COMPUTE_BF16 } };
	const bool quick = argc > 1 && strcmp(argv[1], "quick") == 0;
	kf_pool *pool = NULL;
	kf_exec *cpu = NULL;
	kf_err err = { 0 };
	int failed = 0;

	if (!kf_ops_cuda()) {
		fprintf(stderr, "check: this was built without CUDA\n");
		return 1;
	}
	if (kf_pool_new(0, &pool, &err) != KF_OK || kf_exec_new(&kf_ops_cpu, pool, KF_COMPUTE_F32, &cpu, &err) != KF_OK) goto fail;
	for (int i = 0; i < 2; i++) {
		kf_exec *dev;

		if (kf_exec_new(kf_ops_cuda(), pool, ways[i].compute, &dev, &err) != KF_OK) goto fail;
		if (!i) {
			const kf_cuda *c = kf_cuda_of(dev);

			printf("{\"device\": \"%s\", \"compute_capability\": \"%d.%d\", \"attention\": \"%s\",\n", c->dev.name, c->dev.sm / 10,
				c->dev.sm % 10, kf_cuda_fused_name(c->fused));
		}
		failed += check(cpu, dev, ways[i].name, quick);
		printf(i ? "}\n" : ",\n");
		kf_exec_free(dev);
	}
	kf_exec_free(cpu);
	kf_pool_free(pool);
	return failed != 0;
fail:
	fprintf(stderr, "check: %s\n", err.text);
	return 1;
}
