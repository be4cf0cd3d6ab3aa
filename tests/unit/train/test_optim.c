/* Schedules by hand; checkpoints; the first steps of training against torch's
 * (tests/parity/train, made by tests/models/make_train_fixture.py). */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "common/base/file.h"
#include "train/checkpoint.h"
#include "train/optim.h"

#define OK(call) do { kf_err e_; if ((call) != KF_OK) fail_msg("%s", e_.text); } while (0)

typedef struct {
	kf_pool *pool;
	kf_exec *x;
	kf_weights *w;
	kf_model *m;
	kf_optim opt;
} rig;

static void rig_open(rig *r, const char *name)
{
	char path[256];

	snprintf(path, sizeof path, "tests/models/%s", name);
	OK(kf_pool_new(2, &r->pool, &e_));
	OK(kf_exec_new(&kf_ops_cpu, r->pool, KF_COMPUTE_F32, &r->x, &e_));
	OK(kf_weights_open(path, &r->w, &e_));
	OK(kf_model_new(r->w, r->x, &(kf_model_opts){ .train = true }, &r->m, &e_));
	OK(kf_optim_init(&r->opt, r->m, r->x, false, NULL, &e_));
}

static void rig_close(rig *r)
{
	kf_optim_release(&r->opt);
	kf_model_free(r->m);
	kf_weights_close(r->w);
	kf_exec_free(r->x);
	kf_pool_free(r->pool);
}

static void test_lr(void **state)
{
	kf_train_opts o = { .lr = 1, .warmup = 0.1, .lr_kind = KF_LR_COSINE };

	(void)state;
	/* Ten of a hundred steps up, then half a cosine over ninety. */
	assert_float_equal((float)kf_lr_at(&o, 1, 100), 0.1f, 1e-6f);
	assert_float_equal((float)kf_lr_at(&o, 10, 100), 1, 1e-6f);
	assert_float_equal((float)kf_lr_at(&o, 11, 100), 1, 1e-6f);
	assert_float_equal((float)kf_lr_at(&o, 56, 100), 0.5f, 1e-6f);
	assert_true(kf_lr_at(&o, 100, 100) > 0 && kf_lr_at(&o, 100, 100) < 0.001);
	o.lr_kind = KF_LR_LINEAR;
	assert_float_equal((float)kf_lr_at(&o, 56, 100), 0.5f, 1e-6f);
	o.lr_kind = KF_LR_CONSTANT;
	assert_float_equal((float)kf_lr_at(&o, 100, 100), 1, 1e-6f);
	o.warmup = 0;
	assert_float_equal((float)kf_lr_at(&o, 1, 1), 1, 1e-6f);
	o.warmup = 1;
	assert_float_equal((float)kf_lr_at(&o, 3, 3), 1, 1e-6f);
}

static void test_lambda(void **state)
{
	kf_train_opts o = { .lambda = 0.2 };

	(void)state;
	assert_float_equal((float)kf_lambda_at(&o, 50, 100), 0.2f, 1e-6f);
	o.lambda_decay = 1;
	assert_float_equal((float)kf_lambda_at(&o, 1, 100), 0.2f, 1e-6f);
	assert_float_equal((float)kf_lambda_at(&o, 51, 100), 0.6f, 1e-6f);
}

static uint8_t *read_all(const char *path, size_t *n)
{
	kf_buf b = { 0 };

	OK(kf_file_read(path, 1 << 24, &b, &e_));
	*n = b.len;
	return b.data;
}

/* Losses and norms of eight clipped steps. */
static void check_steps(const char *name)
{
	kf_train_opts o = { .beta1 = 0.9, .beta2 = 0.95, .decay = 0.1 };
	char path[256];
	uint8_t *raw;
	size_t n;
	int32_t head[4], *ints, rows = 0;
	uint32_t *off;
	kf_batch b;
	FILE *f;
	rig r;

	rig_open(&r, name);
	snprintf(path, sizeof path, "tests/parity/forward/%s.bin", name);
	raw = read_all(path, &n);
	memcpy(head, raw + 8, sizeof head);                /* S, T, V, parameters */
	ints = (int32_t *)(raw + 24);
	b = (kf_batch){ .T = head[1], .S = head[0], .offset = ints, .tokens = ints + head[0] + 1 };
	off = kf_zalloc((size_t)b.T + 1, sizeof *off);
	for (int i = 0; i < b.T; i++)
		rows += b.tokens[b.T + i] >= 0;            /* labels follow the tokens */
	snprintf(path, sizeof path, "tests/parity/train/%s.txt", name);
	f = fopen(path, "r");
	assert_non_null(f);
	for (int step = 1; step <= 8; step++) {
		kf_loss_query q = { .labels = b.tokens + b.T, .off = off, .lambda = 1, .temperature = 1, .scale = 1 };
		double loss, norm, want_loss, want_norm;
		kf_loss l;

		assert_int_equal(fscanf(f, "%lf %lf", &want_loss, &want_norm), 2);
		kf_model_zero_grad(r.m);
		OK(kf_model_loss(r.m, &b, &q, true, &l, &e_));
		loss = l.loss / rows;
		OK(kf_optim_norm(&r.opt, &norm, &e_));
		norm /= rows;
		if (fabs(loss - want_loss) > 2e-4 * want_loss || fabs(norm - want_norm) > 2e-3 * want_norm)
			fail_msg("%s, step %d: loss %.6f, norm %.6f; torch: %.6f, %.6f", name, step, loss, norm, want_loss, want_norm);
		kf_optim_step(&r.opt, &o, 3e-3, (norm > 1 ? 1 / norm : 1) / rows, step);
	}
	fclose(f);
	kf_free(raw);
	kf_free(off);
	rig_close(&r);
}

static void test_steps(void **state)
{
	(void)state;
	check_steps("llama-tiny");
	check_steps("llama-untied");
	check_steps("qwen2-tiny");
	check_steps("gemma3-tiny");
}

static void fill(rig *r, float v)
{
	for (int i = 0; i < r->opt.n; i++) {
		float *value = r->opt.params[i].value;

		for (uint64_t j = 0; j < r->opt.params[i].rows * r->opt.params[i].cols; j++) {
			value[j] = v + (float)i;
			r->opt.state[i].m[j] = 2 * v + (float)j;
			r->opt.state[i].v[j] = 3 * v;
		}
	}
}

static bool is_filled(const rig *r, float v)
{
	for (int i = 0; i < r->opt.n; i++) {
		const float *value = r->opt.params[i].value;

		for (uint64_t j = 0; j < r->opt.params[i].rows * r->opt.params[i].cols; j++)
			if (value[j] != v + (float)i || r->opt.state[i].m[j] != 2 * v + (float)j || r->opt.state[i].v[j] != 3 * v)
				return false;
	}
	return true;
}

static void test_checkpoints(void **state)
{
	char dir[] = "/tmp/kf-checkpoint-XXXXXX", path[256];
	json_t *s, *back;
	kf_err err;
	uint8_t *raw;
	size_t n;
	FILE *f;
	rig r;

	(void)state;
	assert_non_null(mkdtemp(dir));
	rig_open(&r, "llama-tiny");
	assert_int_equal(kf_checkpoint_read(dir, &r.opt, &back, &err), KF_ENOTFOUND);
	for (int step = 1; step <= 4; step++) {
		s = json_pack("{s:i}", "step", step);
		fill(&r, (float)step);
		OK(kf_checkpoint_write(dir, step, s, &r.opt, &e_));
		json_decref(s);
	}
	snprintf(path, sizeof path, "%s/step-000000002.ckpt", dir);
	assert_false(kf_exists(path));                     /* the last two are kept */
	fill(&r, 99);
	OK(kf_checkpoint_read(dir, &r.opt, &back, &e_));
	assert_int_equal(json_integer_value(json_object_get(back, "step")), 4);
	assert_true(is_filled(&r, 4));
	json_decref(back);

	/* One flipped bit, then half a file: the one before serves. */
	snprintf(path, sizeof path, "%s/step-000000004.ckpt", dir);
	raw = read_all(path, &n);
	raw[n / 2] ^= 1;
	for (int cut = 0; cut < 2; cut++) {
		f = fopen(path, "wb");
		assert_int_equal(fwrite(raw, 1, cut ? n / 2 : n, f), cut ? n / 2 : n);
		fclose(f);
		OK(kf_checkpoint_read(dir, &r.opt, &back, &e_));
		assert_int_equal(json_integer_value(json_object_get(back, "step")), 3);
		assert_true(is_filled(&r, 3));
		json_decref(back);
	}
	snprintf(path, sizeof path, "%s/step-000000003.ckpt", dir);
	f = fopen(path, "wb");
	fclose(f);
	assert_int_equal(kf_checkpoint_read(dir, &r.opt, &back, &err), KF_EDATA);
	kf_free(raw);
	OK(kf_remove_tree(dir, &e_));
	assert_false(kf_exists(dir));
	OK(kf_remove_tree(dir, &e_));
	rig_close(&r);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_lr),
		cmocka_unit_test(test_lambda),
		cmocka_unit_test(test_steps),
		cmocka_unit_test(test_checkpoints),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
