/* The CUDA backend's host side on the launch emulator: every op and every architecture against the CPU backend, as
 * make gpu-check has it on a device. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <cmocka.h>

#include "tests/gpu/parity.h"

extern const kf_ops kf_cuda_ops;

static void report(kf_parity *p, const char *name, double error, double allowed, const char *why)
{
	if (!(error <= allowed)) print_error("%s, %s: off by %.3g, allowed %.3g. %s\n", (const char *)p->arg, name, error, allowed, why ? why : "");
}

static void begin(kf_parity *p, kf_pool **pool, kf_compute compute)
{
	kf_err err;

	*p = (kf_parity){ .rows = 40, .report = report, .arg = compute == KF_COMPUTE_BF16 ? "bf16" : "f32" };
	kf_rng_seed(&p->rng, 1);
	if (kf_pool_new(2, pool, &err) != KF_OK || kf_exec_new(&kf_ops_cpu, *pool, KF_COMPUTE_F32, &p->x[0], &err) != KF_OK ||
	    kf_exec_new(&kf_cuda_ops, *pool, compute, &p->x[1], &err) != KF_OK)
		fail_msg("%s", err.text);
}

static void end(kf_parity *p, kf_pool *pool, int least)
{
	kf_exec_free(p->x[0]);
	kf_exec_free(p->x[1]);
	kf_pool_free(pool);
	printf("%s: %d comparisons\n", (const char *)p->arg, p->done);
	assert_true(p->done >= least);
	assert_int_equal(p->failed, 0);
}

static void ops(kf_compute compute)
{
	kf_parity p;
	kf_pool *pool;

	begin(&p, &pool, compute);
	kf_parity_ops(&p);
	end(&p, pool, 100);
}

static void test_ops_f32(void **state)
{
	(void)state;
	ops(KF_COMPUTE_F32);
}

static void test_ops_bf16(void **state)
{
	(void)state;
	ops(KF_COMPUTE_BF16);
}

static void models(kf_compute compute)
{
	kf_parity p;
	kf_pool *pool;
	char dir[200];

	begin(&p, &pool, compute);
	for (int i = 0; i < kf_parity_n_models; i++) {
		snprintf(dir, sizeof dir, "tests/models/%s", kf_parity_models[i]);
		kf_parity_model(&p, dir, kf_parity_models[i]);
	}
	end(&p, pool, 6 * kf_parity_n_models);
}

static void test_models_f32(void **state)
{
	(void)state;
	models(KF_COMPUTE_F32);
}

static void test_models_bf16(void **state)
{
	(void)state;
	models(KF_COMPUTE_BF16);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_ops_f32), cmocka_unit_test(test_ops_bf16), cmocka_unit_test(test_models_f32),
		cmocka_unit_test(test_models_bf16),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
