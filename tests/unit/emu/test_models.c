/* Whole models through the CUDA backend on the emulator: every family's forward and backward in float32 against
 * transformers', and in bfloat16 against the CPU's float32. */
#include "tests/unit/emu/util.h"
#include "tests/unit/model/forward.h"

static void forward(void **state)
{
	(void)state;
	emu_order(EMU_FORWARD, 1);
	for (int i = 0; i < N_MODELS; i++) check_forward(MODELS[i], &kf_cuda_ops, (kf_model_opts){ .resident = true });
}

static void gradients(void **state)
{
	(void)state;
	emu_order(EMU_RANDOM, 2);
	for (int i = 0; i < N_MODELS; i++) check_gradients(MODELS[i], &kf_cuda_ops);
}

/* The loss of the fixture's text, and every gradient as floats, one after the other. */
static float *run(const char *name, const kf_ops *ops, kf_compute compute, bool recompute, kf_loss *loss, size_t *n)
{
	fixture f;
	rig r;
	kf_batch b;
	kf_param *p;
	uint32_t *off;
	kf_loss_query q;
	float *all;
	int params;

	load(name, &f);
	b = batch_of(&f);
	rig_open_as(&r, name, ops, compute, (kf_model_opts){ .train = true, .recompute = recompute });
	off = kf_alloc((size_t)f.T + 1, sizeof *off);
	q = clm_query(&f, off, count_labels(&f));
	OK(kf_model_loss(r.m, &b, &q, true, loss, &e_));
	params = kf_model_params(r.m, &p);
	*n = 0;
	for (int i = 0; i < params; i++) *n += (size_t)(p[i].rows * p[i].cols);
	all = kf_alloc(*n, sizeof *all);
	*n = 0;
	for (int i = 0; i < params; i++) {
		OK(ops->get_num(r.x, all + *n, p[i].grad, p[i].num, (size_t)(p[i].rows * p[i].cols), &e_));
		*n += (size_t)(p[i].rows * p[i].cols);
	}
	kf_free(off);
	rig_close(&r);
	unload(&f);
	return all;
}

/* In bf16 a number has 8 bits, and these models' weights are random, so that errors grow from layer to layer: the loss is within half a
 * per cent, and all gradients together point the same way. (That each kernel does to bf16 what it does to float32 is
 * tested kernel by kernel.) */
static void bf16(void **state)
{
	(void)state;
	emu_order(EMU_FORWARD, 1);
	for (int i = 0; i < N_MODELS; i++) {
		kf_loss a, b;
		size_t n, m;
		float *ga = run(MODELS[i], &kf_ops_cpu, KF_COMPUTE_F32, false, &a, &n),
			*gb = run(MODELS[i], &kf_cuda_ops, KF_COMPUTE_BF16, false, &b, &m);
		double ab = 0, aa = 0, bb = 0, angle;

		assert_int_equal(n, m);
		for (size_t k = 0; k < n; k++) {
			ab += (double)ga[k] * gb[k];
			aa += (double)ga[k] * ga[k];
			bb += (double)gb[k] * gb[k];
		}
		angle = ab / sqrt(aa * bb);
		printf("%-30s bf16: loss off by %.2g, cosine of gradients %.5f, lengths %.4f\n", MODELS[i], b.loss / a.loss - 1, angle, sqrt(bb / aa));
		assert_true(fabs(b.loss / a.loss - 1) < 5e-3);
		assert_true(angle > 0.98 && fabs(sqrt(bb / aa) - 1) < 0.1);
		kf_free(ga);
		kf_free(gb);
	}
}

/* Layers that are run again give the same bits. */
static void recompute(void **state)
{
	(void)state;
	for (int i = 0; i < 4; i++) {
		kf_loss a, b;
		size_t n, m;
		float *ga = run(MODELS[i], &kf_cuda_ops, KF_COMPUTE_BF16, false, &a, &n),
			*gb = run(MODELS[i], &kf_cuda_ops, KF_COMPUTE_BF16, true, &b, &m);

		assert_true(a.loss == b.loss);
		assert_memory_equal(ga, gb, n * sizeof *ga);
		kf_free(ga);
		kf_free(gb);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(forward), cmocka_unit_test(gradients), cmocka_unit_test(bf16), cmocka_unit_test(recompute)
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
