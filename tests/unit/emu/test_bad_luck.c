/* A device that fails in the middle of things, and one that has too little memory: nothing of it may pass unnoticed, and what is said helps. */
#include "tests/unit/emu/util.h"

#include "train/optim.h"

enum { T = 12, K = 2 };

typedef struct {
	kf_pool *pool;
	kf_exec *x;
	kf_weights *w;
	kf_model *m;
	kf_kv *kv;
	kf_optim opt;
	int32_t tokens[T], labels[T], offset[3], ids[T];
	uint32_t off[T + 1];
	float p[T];
} rig;

static void release(rig *r)
{
	kf_optim_release(&r->opt);
	kf_kv_free(r->kv);
	kf_model_free(r->m);
	kf_exec_free(r->x);
	kf_weights_close(r->w);
	kf_pool_free(r->pool);
	memset(r, 0, sizeof *r);
}

static kf_status open_rig(rig *r, const char *model, bool train, kf_err *err)
{
	const kf_model_opts opts = { .train = train };
	kf_status rc;

	*r = (rig){ .offset = { 0, 5, T } };
	for (int t = 0; t <= T; t++) r->off[t] = (uint32_t)t;
	for (int t = 0; t < T; t++) r->tokens[t] = r->labels[t] = r->ids[t] = t + 3, r->p[t] = 0.5f;
	if ((rc = kf_pool_new(1, &r->pool, err)) != KF_OK || (rc = kf_weights_open(model, &r->w, err)) != KF_OK ||
	    (rc = kf_exec_new(&kf_cuda_ops, r->pool, KF_COMPUTE_BF16, &r->x, err)) != KF_OK ||
	    (train && (rc = kf_train_check_memory(r->w, r->x, false, 1, err)) != KF_OK) ||
	    (rc = kf_model_new(r->w, r->x, &opts, &r->m, err)) != KF_OK)
		return rc;
	return train ? kf_optim_init(&r->opt, r->m, r->x, false, NULL, err) : kf_kv_new(r->m, 2 * T, &r->kv, err);
}

/* A micro-batch, a step, and the weights that came of it. */
static kf_status step(rig *r, kf_err *err)
{
	const kf_train_opts o = { .beta1 = 0.9, .beta2 = 0.95 };
	const kf_batch b = { .T = T, .S = 2, .tokens = r->tokens, .offset = r->offset };
	const kf_loss_query q = { .labels = r->labels, .off = r->off, .ids = r->ids, .q = r->p, .lambda = 0.5, .temperature = 1, .scale = 1 };
	const kf_param *p = r->opt.params;
	kf_loss loss;
	double norm;
	float one;
	kf_status rc;

	kf_model_zero_grad(r->m);
	if ((rc = kf_model_loss(r->m, &b, &q, true, &loss, err)) != KF_OK || (rc = kf_optim_norm(&r->opt, &norm, err)) != KF_OK) return rc;
	assert_true(isfinite(loss.loss) && norm > 0 && isfinite(norm));
	kf_optim_step(&r->opt, &o, 1e-3, 1, 1);
	return r->x->ops->get_num(r->x, &one, p[r->opt.n - 1].value, p[r->opt.n - 1].num, 1, err);
}

/* What comes after the text, twice: the second time from the cache. */
static kf_status score(rig *r, kf_err *err)
{
	int32_t top[T * K], row[] = { 0, T }, n[] = { 0, 0 };
	float ce[T], lp[T * K];
	kf_before before = { r->kv, row, n };
	const kf_batch b = { .T = T, .S = 2, .tokens = r->tokens, .offset = r->offset, .before = &before };
	const kf_score_query q = { .k = K, .labels = r->labels };
	kf_score out = { .ce = ce, .top_ids = top, .top_lp = lp };
	kf_status rc = kf_model_score(r->m, &b, &q, &out, err);

	n[0] = r->offset[1], n[1] = 1;
	return rc == KF_OK ? kf_model_score(r->m, &b, &q, &out, err) : rc;
}

static const char *const WHOSE[] = { "tests/models/llama-tiny", "tests/models/families/mixtral-2-of-4", "tests/models/families/gpt-neox" };

/* Whichever thing asked of the device is the first that fails: somebody says so before the end. */
static void failing(void **state)
{
	(void)state;
	emu_order(EMU_FORWARD, 1);
	for (int k = 0; k < 6; k++) {
		const bool train = k % 2;
		long whole = 0, tried = 0;
		rig r;
		kf_err err;

		for (long n = 0; n == 0 || n < whole; n += n < 12 || n > whole - 12 ? 1 : 11, tried++) {
			long before;

			emu_reset();
			if (open_rig(&r, WHOSE[k / 2], train, &err) != KF_OK) fail_msg("%s", err.text);
			before = emu_launches() + emu_copies() + emu_products() + emu_waits();
			emu_fail_at(n);
			err = (kf_err){ 0 };
			if (n && (train ? step(&r, &err) : score(&r, &err)) != KF_EIO)
				fail_msg("%s: the %ldth of %ld things failed, and nobody said so: %s", WHOSE[k / 2], n, whole, err.text);
			if (n && !strstr(err.text, "the emulated device failed")) fail_msg("%s", err.text);
			if (!n && (train ? step(&r, &err) : score(&r, &err)) != KF_OK) fail_msg("%s", err.text);
			if (!n) whole = emu_launches() + emu_copies() + emu_products() + emu_waits() - before;
			release(&r);
		}
		printf("%s, %s: %ld of %ld things failed in turn\n", WHOSE[k / 2], train ? "a step" : "scores", tried - 1, whole);
		assert_true(whole > 80);
	}
	emu_reset();
}

/* With every amount of memory that is too little: how much of what, and an option. Then it is enough. */
static void memory(void **state)
{
	(void)state;
	for (int train = 0; train < 2; train++) {
		size_t bytes = 1 << 20;
		int refused = 0, kinds = 0;
		char last[40] = "";
		rig r;

		for (;;) {
			kf_err err = { 0 };
			kf_status rc;

			emu_memory(bytes);
			rc = open_rig(&r, WHOSE[0], train, &err);
			if (rc == KF_OK) rc = train ? step(&r, &err) : score(&r, &err);
			release(&r);
			if (rc == KF_OK) break;
			if (rc != KF_ENOMEM || !strpbrk(err.text, "0123456789") || !(strstr(err.text, " MB") || strstr(err.text, " GB")) ||
			    !strstr(err.text, " free") || !(strstr(err.text, "--")))
				fail_msg("%zu bytes: %s", bytes, err.text);
			if (strncmp(err.text, last, sizeof last - 1) != 0) {
				printf("%6.1f MB: %s\n", (double)bytes * 1e-6, err.text);
				snprintf(last, sizeof last, "%.39s", err.text);
				kinds++;
			}
			refused++;
			bytes = refused == 1 ? (size_t)64 << 20 : bytes + 16000;   /* beyond the first: what the host sends has room */
			assert_true(refused < 2000);
		}
		printf("%s: refused with %d amounts of memory, with %d messages; %.1f MB are enough\n", train ? "training" : "scoring", refused, kinds,
			(double)bytes * 1e-6);
		assert_true(kinds >= 3);
	}
	emu_memory((size_t)EMU_MEMORY_MB << 20);
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(failing), cmocka_unit_test(memory) };

	return cmocka_run_group_tests(tests, NULL, NULL);
}
