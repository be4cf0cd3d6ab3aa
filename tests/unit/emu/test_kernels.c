/* The CUDA kernels but attention and head, on the emulator, against the reference backend. */
#include "tests/unit/emu/util.h"

static kf_exec *ref;   /* the reference has no state: any test may use it */

static void convert(void **state)
{
	static const size_t sizes[] = { 0, 1, 7, 8, 1000, 3001 };
	kf_rng r;

	(void)state;
	kf_rng_seed(&r, 1);
	for (size_t k = 0; k < sizeof sizes / sizeof *sizes; k++)
		for (int off = 0; off < 2; off++)
			FOR_TYPES(to) FOR_TYPES(from) for (FOR_ORDERS(o)) {
				const size_t n = sizes[k], pad = (size_t)off;   /* off: not on a 16-byte boundary */
				float *in = numbers(&r, from, n + pad, 1e3), *want = copy_floats(in, n + pad), *got;
				char *src = device_numbers(from, in, n + pad), *dst = device_numbers(to, in, n + pad);

				for (size_t i = 0; i < n + pad; i++) if (to == KF_NUM_BF16) want[i] = bf16_float(float_bf16(in[i]));
				launched(kf_cuda_fill(to, dst, 9, n + pad, NULL));
				launched(kf_cuda_convert(to, dst + pad * kf_num_size(to), from, src + pad * kf_num_size(from), n, NULL));
				got = host_numbers(to, dst, n + pad);
				for (size_t i = 0; i < n + pad; i++) assert_true(got[i] == (i < pad ? 9 : want[i]));
				kf_free(got);
				kf_free(want);
				kf_free(in);
				emu_free(src);
				emu_free(dst);
			}
}

static void pointwise(void **state)
{
	static const size_t sizes[] = { 1, 8, 2055 };
	kf_rng r;

	(void)state;
	kf_rng_seed(&r, 2);
	for (size_t k = 0; k < sizeof sizes / sizeof *sizes; k++)
		FOR_TYPES(type) for (int gated = 0; gated < 2; gated++) for (kf_act act = KF_ACT_SILU; act <= KF_ACT_GELU; act++) {
			const size_t n = sizes[k];
			float *g = numbers(&r, type, n, 3), *u = numbers(&r, type, n, 1), *d = numbers(&r, type, n, 1), *first[4] = { NULL };
			float *wy = copy_floats(g, n), *wg = copy_floats(g, n), *wu = copy_floats(u, n), *wa = copy_floats(g, n);

			if (n > 4) g[0] = 90, g[1] = -90, g[2] = 200, g[3] = -200;   /* far out: exponentials overflow */
			kf_ops_ref.glu(ref, wy, g, gated ? u : NULL, act, n);
			kf_ops_ref.glu_dx(ref, wg, gated ? wu : NULL, d, g, gated ? u : NULL, act, n);
			memcpy(wa, g, n * sizeof *g);
			kf_ops_ref.add(ref, wa, u, n);
			for (FOR_ORDERS(o)) {
				void *dg = device_numbers(type, g, n), *du = device_numbers(type, u, n), *dd = device_numbers(type, d, n),
					*y = device_empty(type, n), *a = device_numbers(type, g, n);

				launched(kf_cuda_add(type, a, du, n, NULL));
				launched(kf_cuda_glu(type, y, dg, gated ? du : NULL, act, n, NULL));
				launched(kf_cuda_glu_dx(type, dg, gated ? du : NULL, dd, dg, gated ? du : NULL, act, n, NULL));   /* in place */
				output("glu", o, &first[0], type, y, wy, n, 2e-6);
				output("dgate", o, &first[1], type, dg, wg, n, 2e-6);
				output("dup", o, &first[2], type, du, gated ? wu : u, n, 2e-6);
				output("add", o, &first[3], type, a, wa, n, 0);
				emu_free(dd);
			}
			kf_free(g), kf_free(u), kf_free(d), kf_free(wy), kf_free(wg), kf_free(wu), kf_free(wa);
		}
}

static void add_bias_and_sums(void **state)
{
	static const struct { int T, N; } shape[] = { { 1, 1 }, { 5, 24 }, { 300, 33 }, { 67, 66 }, { 1100, 8 } };
	kf_rng r;

	(void)state;
	kf_rng_seed(&r, 3);
	for (size_t k = 0; k < sizeof shape / sizeof *shape; k++)
		FOR_TYPES(type) {
			const int T = shape[k].T, N = shape[k].N;
			const size_t n = (size_t)T * (size_t)N;
			float *y = numbers(&r, type, n, 1), *b = numbers(&r, KF_NUM_F32, (size_t)N, 1), *wy = copy_floats(y, n),
				*wb = copy_floats(b, (size_t)N), *first[2] = { NULL };

			for (size_t i = 0; i < n; i++) wy[i] += b[i % (size_t)N];
			for (int c = 0; c < N; c++) {
				double s = b[c];

				for (int t = 0; t < T; t++) s += y[t * N + c];
				wb[c] = (float)s;
			}
			for (FOR_ORDERS(o)) {
				void *dy = device_numbers(type, y, n), *scratch = emu_alloc(kf_cuda_column_sums_scratch(T, N));
				float *db = device_bytes(b, (size_t)N * sizeof *b), *db2 = device_bytes(b, (size_t)N * sizeof *b);

				launched(kf_cuda_column_sums(db2, type, dy, T, N, scratch, NULL));
				launched(kf_cuda_add_bias(type, dy, db, T, N, NULL));
				output("add_bias", o, &first[0], type, dy, wy, n, 0);
				output("column sums", o, &first[1], KF_NUM_F32, db2, wb, (size_t)N, 1e-5);
				emu_free(db);
				emu_free(scratch);
			}
			kf_free(y), kf_free(b), kf_free(wy), kf_free(wb);
		}
}

static void norms(void **state)
{
	static const struct { int rows, C; } shape[] = { { 1, 1 }, { 3, 7 }, { 9, 64 }, { 70, 96 }, { 5, 1024 }, { 3, 1032 }, { 2, 1101 } };
	const float eps = 1e-5f;
	kf_rng r;

	(void)state;
	kf_rng_seed(&r, 4);
	for (size_t k = 0; k < sizeof shape / sizeof *shape; k++)
		FOR_TYPES(type) for (int layer = 0; layer < 2; layer++) {
			const int rows = shape[k].rows, C = shape[k].C;
			const size_t n = (size_t)rows * (size_t)C, c_ = (size_t)C, s_ = (size_t)rows * (layer ? 2 : 1);
			float *in = numbers(&r, type, n, 2), *dy = numbers(&r, type, n, 1), *dx = numbers(&r, type, n, 1),
				*w = numbers(&r, KF_NUM_F32, c_, 1), *b = numbers(&r, KF_NUM_F32, c_, 1), *dw = numbers(&r, KF_NUM_F32, c_, 1),
				*db = numbers(&r, KF_NUM_F32, c_, 1), *first[5] = { NULL };
			float *wy = copy_floats(in, n), *wstat = kf_zalloc(s_, sizeof(float)), *wdx = copy_floats(dx, n), *wdw = copy_floats(dw, c_),
				*wdb = copy_floats(db, c_);

			for (size_t i = 0; layer && i < n; i++) in[i] += 16;   /* the mean is far from 0: whole numbers, exact in bf16 or rounded next */
			for (size_t i = 0; type == KF_NUM_BF16 && i < n; i++) in[i] = bf16_float(float_bf16(in[i]));
			if (layer) {
				kf_ops_ref.layernorm(ref, wy, wstat, in, w, b, eps, rows, C);
				kf_ops_ref.layernorm_dx(ref, wdx, wdw, wdb, dy, in, w, wstat, rows, C);
			} else {
				kf_ops_ref.rmsnorm(ref, wy, wstat, in, w, eps, rows, C);
				kf_ops_ref.rmsnorm_dx(ref, wdx, wdw, dy, in, w, wstat, rows, C);
			}
			for (FOR_ORDERS(o)) {
				void *din = device_numbers(type, in, n), *ddy = device_numbers(type, dy, n), *ddx = device_numbers(type, dx, n),
					*y = device_empty(type, n), *scratch = emu_alloc(kf_cuda_norm_dx_scratch(rows, C));
				float *vw = device_bytes(w, c_ * 4), *vb = device_bytes(b, c_ * 4), *vdw = device_bytes(dw, c_ * 4),
					*vdb = device_bytes(db, c_ * 4), *stat = device_empty(KF_NUM_F32, s_);

				if (layer) {
					launched(kf_cuda_layernorm(type, y, stat, din, vw, vb, eps, rows, C, NULL));
					launched(kf_cuda_layernorm_dx(type, ddx, vdw, vdb, ddy, din, vw, stat, rows, C, scratch, NULL));
					output("layernorm db", o, &first[4], KF_NUM_F32, vdb, wdb, c_, 2e-5);
				} else {
					launched(kf_cuda_rmsnorm(type, y, stat, din, vw, eps, rows, C, NULL));
					launched(kf_cuda_rmsnorm_dx(type, ddx, vdw, ddy, din, vw, stat, rows, C, scratch, NULL));
					emu_free(vdb);
				}
				output("norm", o, &first[0], type, y, wy, n, 1e-5);
				output("norm stat", o, &first[1], KF_NUM_F32, stat, wstat, s_, 1e-5);
				output("norm dx", o, &first[2], type, ddx, wdx, n, 2e-5);
				output("norm dw", o, &first[3], KF_NUM_F32, vdw, wdw, c_, 2e-5);
				emu_free(din), emu_free(ddy), emu_free(scratch), emu_free(vw), emu_free(vb);
			}
			kf_free(in), kf_free(dy), kf_free(dx), kf_free(w), kf_free(b), kf_free(dw), kf_free(db);
			kf_free(wy), kf_free(wstat), kf_free(wdx), kf_free(wdw), kf_free(wdb);
		}
}

static void rope(void **state)
{
	static const struct { int heads, D, R; } shape[] = { { 1, 2, 2 }, { 3, 10, 6 }, { 2, 64, 64 }, { 5, 32, 16 } };
	static const int32_t offset[] = { 0, 3, 4, 4, 20 };
	enum { S = 4, T = 20 };
	kf_rng r;

	(void)state;
	kf_rng_seed(&r, 5);
	for (size_t k = 0; k < sizeof shape / sizeof *shape; k++)
		FOR_TYPES(type) for (int inverse = 0; inverse < 2; inverse++) {
			const int heads = shape[k].heads, D = shape[k].D, R = shape[k].R;
			const size_t n = (size_t)(T * heads * D);
			float *v = numbers(&r, type, n, 1), *want = copy_floats(v, n), freq[32], *first[3] = { NULL };
			kf_rotary rot = { freq, R, 1.5f };

			for (int i = 0; i < R / 2; i++) freq[i] = powf(10, -(float)i / 3) * 300;   /* angles in the thousands */
			kf_ops_ref.rope(ref, want, &rot, offset, S, heads, D, inverse);
			for (FOR_ORDERS(o)) {
				void *dv = device_numbers(type, v, n);
				int32_t *begin = emu_alloc(T * 4), *end = emu_alloc(T * 4), *off = device_bytes(offset, sizeof offset);

				rot.inv_freq = device_bytes(freq, sizeof freq);
				launched(kf_cuda_spans(begin, end, off, NULL, S, T, NULL));
				for (int t = 0; t < T; t++) {
					assert_int_equal(begin[t], t < 3 ? 0 : t < 4 ? 3 : 4);
					assert_int_equal(end[t], t < 3 ? 3 : t < 4 ? 4 : 20);
				}
				launched(kf_cuda_rope(type, dv, &rot, begin, T, heads, D, inverse, NULL));
				output("rope", o, &first[0], type, dv, want, n, 2e-6);
				emu_free((void *)rot.inv_freq), emu_free(begin), emu_free(end), emu_free(off);
			}
			kf_free(v), kf_free(want);
		}
}

static void rows(void **state)
{
	static const struct { int n, from, C; } shape[] = { { 1, 1, 1 }, { 40, 7, 1 }, { 33, 11, 19 }, { 20, 30, 64 }, { 7, 3, 1100 } };
	kf_rng r;

	(void)state;
	kf_rng_seed(&r, 6);
	for (size_t k = 0; k < sizeof shape / sizeof *shape; k++)
		FOR_TYPES(type) for (int weighted = 0; weighted < 2; weighted++) {
			const int n = shape[k].n, from = shape[k].from, C = shape[k].C;
			const size_t nc = (size_t)n * (size_t)C, fc = (size_t)from * (size_t)C;
			float *big = numbers(&r, type, fc, 1), *small = numbers(&r, type, nc, 1), *w = numbers(&r, KF_NUM_F32, (size_t)n, 1), *first[4] = { NULL };
			float *wg = copy_floats(small, nc), *ws = copy_floats(big, fc), *wd = copy_floats(w, (size_t)n);
			int32_t *index = kf_alloc((size_t)n, 4), *perm = kf_alloc((size_t)n, 4), *order = kf_alloc((size_t)n, 4),
				*start = kf_alloc((size_t)n + 1, 4), *value = kf_alloc((size_t)n, 4);
			int groups;

			for (int i = 0; i < n; i++) index[i] = (int)kf_rng_below(&r, (uint32_t)from), perm[i] = i;
			for (int i = n - 1; i > 0; i--) {
				int j = (int)kf_rng_below(&r, (uint32_t)i + 1), t = perm[i];

				perm[i] = perm[j];
				perm[j] = t;
			}
			kf_ops_ref.gather(ref, wg, big, index, weighted ? w : NULL, n, C);
			kf_ops_ref.scatter(ref, ws, small, index, weighted ? w : NULL, n, C);
			kf_ops_ref.dots(ref, wd, small, big, index, n, C);
			groups = kf_cuda_group(index, n, from, order, start, value);
			assert_int_equal(start[groups], n);
			for (int u = 0; u < groups; u++)
				for (int i = start[u]; i < start[u + 1]; i++) {
					assert_int_equal(index[order[i]], value[u]);
					assert_true(i == start[u] || order[i] > order[i - 1]);
				}
			for (FOR_ORDERS(o)) {
				void *db = device_numbers(type, big, fc), *ds = device_numbers(type, small, nc), *y = device_empty(type, nc);
				float *dw = device_bytes(w, (size_t)n * 4), *dots = device_empty(KF_NUM_F32, (size_t)n), *p = device_empty(KF_NUM_F32, (size_t)n),
					*q = device_empty(KF_NUM_F32, (size_t)n);
				int32_t *di = device_bytes(index, (size_t)n * 4), *dp = device_bytes(perm, (size_t)n * 4), *dorder = device_bytes(order, (size_t)n * 4),
					*dstart = device_bytes(start, ((size_t)n + 1) * 4), *dvalue = device_bytes(value, (size_t)n * 4);

				launched(kf_cuda_gather(type, y, db, di, weighted ? dw : NULL, 1, n, C, NULL));
				launched(kf_cuda_dots(type, dots, ds, db, di, n, C, NULL));
				launched(kf_cuda_scatter(type, db, ds, dorder, dstart, dvalue, groups, weighted ? dw : NULL, 1, C, NULL));
				launched(kf_cuda_permute(p, dw, dp, n, false, NULL));
				launched(kf_cuda_permute(q, p, dp, n, true, NULL));
				for (int i = 0; i < n; i++) assert_true(p[i] == w[perm[i]] && q[i] == w[i]);
				output("gather", o, &first[0], type, y, wg, nc, 1e-6);
				output("scatter", o, &first[1], type, db, ws, fc, 2e-6);
				output("dots", o, &first[2], KF_NUM_F32, dots, wd, (size_t)n, 1e-5);
				emu_free(ds), emu_free(dw), emu_free(p), emu_free(q), emu_free(di), emu_free(dp), emu_free(dorder), emu_free(dstart), emu_free(dvalue);
			}
			kf_free(big), kf_free(small), kf_free(w), kf_free(wg), kf_free(ws), kf_free(wd);
			kf_free(index), kf_free(perm), kf_free(order), kf_free(start), kf_free(value);
		}
}

static void route(void **state)
{
	static const struct { int T, E, k; } shape[] = { { 1, 1, 1 }, { 9, 4, 2 }, { 13, 8, 8 }, { 20, 70, 40 } };
	kf_rng r;

	(void)state;
	kf_rng_seed(&r, 7);
	for (size_t s = 0; s < sizeof shape / sizeof *shape; s++)
		FOR_TYPES(type) {
			const int T = shape[s].T, E = shape[s].E, k = shape[s].k;
			const size_t n = (size_t)(T * k), te = (size_t)(T * E);
			float *z = numbers(&r, type, te, 2), *dw = numbers(&r, KF_NUM_F32, n, 1), *ww = copy_floats(dw, n), *wdz = copy_floats(z, te),
				*first[2] = { NULL };
			int32_t *want = kf_alloc(n, 4), bad0 = INT32_MAX;

			for (size_t i = 0; i + 1 < te; i += 3) z[i + 1] = z[i];   /* equals: the lower goes first */
			assert_int_equal(kf_ops_ref.route(ref, ww, want, z, T, E, k, NULL), KF_OK);
			kf_ops_ref.route_dx(ref, wdz, dw, ww, want, T, E, k);
			for (FOR_ORDERS(o)) {
				void *dz = device_numbers(type, z, te), *ddz = device_empty(type, te);
				float *w = device_empty(KF_NUM_F32, n), *ddw = device_bytes(dw, n * 4);
				int32_t *index = emu_alloc(n * 4), *bad = device_bytes(&bad0, 4);

				launched(kf_cuda_route(type, w, index, dz, T, E, k, bad, NULL));
				assert_int_equal(*bad, INT32_MAX);
				assert_memory_equal(index, want, n * 4);
				launched(kf_cuda_route_dx(type, ddz, ddw, w, index, T, E, k, NULL));
				output("route", o, &first[0], KF_NUM_F32, w, ww, n, 1e-6);
				output("route_dx", o, &first[1], type, ddz, wdz, te, 1e-6);
				w = device_empty(KF_NUM_F32, n);
				if (type == KF_NUM_F32) ((float *)dz)[te - 1] = NAN;
				else ((uint16_t *)dz)[te - 1] = 0x7f80;   /* infinity */
				launched(kf_cuda_route(type, w, index, dz, T, E, k, bad, NULL));
				assert_int_equal(*bad, T - 1);
				emu_free(dz), emu_free(w), emu_free(ddw), emu_free(index), emu_free(bad);
			}
			kf_free(z), kf_free(dw), kf_free(ww), kf_free(wdz), kf_free(want);
		}
}

static void split(void **state)
{
	static const kf_attn shape[] = { { .H = 1, .G = 1, .D = 1 }, { .H = 6, .G = 2, .D = 8 }, { .H = 4, .G = 4, .D = 5 }, { .H = 9, .G = 3, .D = 40 } };
	enum { T = 5 };
	kf_rng r;

	(void)state;
	kf_rng_seed(&r, 8);
	for (size_t s = 0; s < sizeof shape / sizeof *shape; s++)
		FOR_TYPES(type) for (int grouped = 0; grouped < 2; grouped++) {
			const kf_attn *a = &shape[s];
			const size_t q_ = (size_t)(T * a->H * a->D), k_ = (size_t)(T * a->G * a->D), f_ = q_ + 2 * k_;
			float *f = numbers(&r, type, f_, 1), *wq = copy_floats(f, q_), *wk = copy_floats(f, k_), *wv = copy_floats(f, k_), *first[4] = { NULL };

			kf_ops_ref.split_qkv(ref, f, wq, wk, wv, T, a, grouped, false);
			for (FOR_ORDERS(o)) {
				void *df = device_numbers(type, f, f_), *q = device_empty(type, q_), *k = device_empty(type, k_), *v = device_empty(type, k_),
					*back = device_empty(type, f_);

				launched(kf_cuda_split_qkv(type, df, q, k, v, T, a, grouped, false, NULL));
				launched(kf_cuda_split_qkv(type, back, q, k, v, T, a, grouped, true, NULL));
				output("split q", o, &first[0], type, q, wq, q_, 0);
				output("split k", o, &first[1], type, k, wk, k_, 0);
				output("split v", o, &first[2], type, v, wv, k_, 0);
				output("join", o, &first[3], type, back, f, f_, 0);
				emu_free(df);
			}
			kf_free(f), kf_free(wq), kf_free(wk), kf_free(wv);
		}
}

static void squares(void **state)
{
	static const size_t sizes[] = { 0, 1, 9, 4096, 20011 };
	kf_rng r;

	(void)state;
	kf_rng_seed(&r, 9);
	for (size_t k = 0; k < sizeof sizes / sizeof *sizes; k++)
		FOR_TYPES(type) {
			const size_t n = sizes[k];
			float *v = numbers(&r, type, n, 1);
			const double want = kf_ops_ref.sumsq(ref, &(kf_nums){ v, KF_NUM_F32, n }, 1);
			double first = 0;

			for (FOR_ORDERS(o)) {
				void *dv = device_numbers(type, v, n), *scratch = emu_alloc(kf_cuda_sumsq_scratch());
				double *sum = emu_alloc(sizeof *sum);

				launched(kf_cuda_sumsq(type, sum, false, dv, n, scratch, NULL));
				assert_true(fabs(*sum - want) <= 1e-6 * want);
				if (!o) first = *sum;
				assert_true(*sum == first);
				launched(kf_cuda_sumsq(type, sum, true, dv, n, scratch, NULL));
				assert_true(*sum == 2 * first);
				emu_free(dv), emu_free(scratch), emu_free(sum);
			}
			kf_free(v);
		}
}

static void adamw(void **state)
{
	static const size_t sizes[] = { 1, 64, 1027 };
	const kf_adamw_opts base = { .gscale = 0.5f, .lr = 0.01f, .beta1 = 0.9f, .beta2 = 0.95f, .eps = 1e-8f, .decay = 0.1f };
	kf_rng r;

	(void)state;
	kf_rng_seed(&r, 10);
	for (size_t k = 0; k < sizeof sizes / sizeof *sizes; k++)
		FOR_TYPES(type) for (int clipped = 0; clipped < 2; clipped++) {
			const size_t n = sizes[k];
			float *w0 = numbers(&r, KF_NUM_F32, n, 1), *g = numbers(&r, type, n, 1), *wm = kf_zalloc(n, 4), *wv = kf_zalloc(n, 4), *first[4] = { NULL },
				*ww = copy_floats(w0, n), clip = 0.25f;
			kf_adamw_opts opts = base;

			if (clipped) opts.gscale *= clip;
			for (opts.step = 1; opts.step <= 3; opts.step++)
				kf_ops_ref.adamw(ref, &(kf_adamw){ .w = ww, .g = g, .m = wm, .v = wv, .n = n }, &opts);
			for (FOR_ORDERS(o)) {
				float *master = device_bytes(w0, n * 4), *m = emu_alloc(n * 4), *v = emu_alloc(n * 4), *scale = device_bytes(&clip, 4);
				void *dg = device_numbers(type, g, n), *w = device_empty(type, n);
				const kf_adamw p = { .type = type, .w = type == KF_NUM_BF16 ? w : master, .g = dg,
					.master = type == KF_NUM_BF16 ? master : NULL, .m = m, .v = v, .n = n };
				float *copy;

				memset(m, 0, n * 4);
				memset(v, 0, n * 4);
				opts.gscale = base.gscale;
				for (opts.step = 1; opts.step <= 3; opts.step++) launched(kf_cuda_adamw(&p, &opts, clipped ? scale : NULL, NULL));
				copy = host_numbers(KF_NUM_F32, master, n);
				for (size_t i = 0; i < n && type == KF_NUM_BF16; i++) assert_true(((uint16_t *)w)[i] == float_bf16(copy[i]));
				kf_free(copy);
				output("master", o, &first[0], KF_NUM_F32, master, ww, n, 1e-6);
				output("m", o, &first[1], KF_NUM_F32, m, wm, n, 1e-6);
				output("v", o, &first[2], KF_NUM_F32, v, wv, n, 1e-6);
				emu_free(w), emu_free(dg), emu_free(scale);
			}
			kf_free(w0), kf_free(g), kf_free(wm), kf_free(wv), kf_free(ww);
		}
}

/* With 8-bit moments the way is another but the end is the same: a quadratic bowl whose directions differ by 1e4 in
 * curvature, with noise. And small changes are not lost: v follows a gradient that becomes smaller. */
static void adamw8(void **state)
{
	enum { N = 600, STEPS = 300, BLOCKS = (N + KF_CUDA_MOMENT_BLOCK - 1) / KF_CUDA_MOMENT_BLOCK };
	kf_rng r;
	float *first[2] = { NULL };
	double v_true = 0, v_got = 0;

	(void)state;
	for (FOR_ORDERS(o)) {
		float *exact = emu_alloc(N * 4), *w = emu_alloc(N * 4), *g = emu_alloc(N * 4), *ge = emu_alloc(N * 4), *m = emu_alloc(N * 4),
			*v = emu_alloc(N * 4), *ms = emu_alloc(BLOCKS * 4), *vs = emu_alloc(BLOCKS * 4);
		int8_t *m8 = emu_alloc(N);
		uint8_t *v8 = emu_alloc(N);
		double left = 0, left8 = 0, most = 0;

		kf_rng_seed(&r, 11);
		memset(m, 0, N * 4), memset(v, 0, N * 4), memset(ms, 0, BLOCKS * 4), memset(vs, 0, BLOCKS * 4), memset(m8, 0, N), memset(v8, 0, N);
		for (int i = 0; i < N; i++) exact[i] = w[i] = 1;
		for (int step = 1; step <= STEPS; step++) {
			const kf_adamw_opts opts = { .gscale = 1, .lr = 0.02f * (1 - (float)step / (STEPS + 1)), .beta1 = 0.9f, .beta2 = 0.99f, .eps = 1e-8f, .step = step };

			for (int i = 0; i < N; i++) {
				const float c = powf(10, -4 * (float)(i % 97) / 97), noise = 0.1f * (float)kf_rng_normal(&r);

				g[i] = c * (w[i] + noise);
				ge[i] = c * (exact[i] + noise);
			}
			launched(kf_cuda_adamw(&(kf_adamw){ .w = exact, .g = ge, .m = m, .v = v, .n = N }, &opts, NULL, NULL));
			launched(kf_cuda_adamw8(&(kf_adamw){ .w = w, .g = g, .n = N }, m8, v8, ms, vs, 5, &opts, NULL, NULL));
		}
		for (int i = 0; i < N; i++) {
			const double c = v8[i] / 255.;

			left += fabs((double)exact[i]);
			left8 += fabs((double)w[i]);
			most = fmax(most, fabs((double)w[i]));
			assert_true(v8[i] > 0);
			v_true += v[i];
			v_got += (double)vs[i / KF_CUDA_MOMENT_BLOCK] * c * c * c * c;
		}
		assert_true(left / N < 0.02);            /* from 1 */
		assert_true(left8 < 1.5 * left && most < 0.2);
		assert_true(fabs(v_got / v_true - 1) < 0.05);
		output("weights with 8-bit moments", o, &first[0], KF_NUM_F32, w, NULL, N, 0);
		emu_free(exact), emu_free(g), emu_free(ge), emu_free(m), emu_free(v), emu_free(ms), emu_free(vs), emu_free(m8), emu_free(v8);
	}
}

/* A parameter in parts ends with the same bits. */
static void adamw8_parts(void **state)
{
	enum { N = 600, CUT = KF_CUDA_MOMENT_BLOCK, BLOCKS = (N + KF_CUDA_MOMENT_BLOCK - 1) / KF_CUDA_MOMENT_BLOCK };
	const kf_adamw_opts opts = { .gscale = 1, .lr = 0.01f, .beta1 = 0.9f, .beta2 = 0.95f, .eps = 1e-8f, .step = 3 };
	float g[N], *w[2], *dg, *ms[2], *vs[2];
	int8_t *m8[2];
	uint8_t *v8[2];
	kf_rng r;

	(void)state;
	kf_rng_seed(&r, 5);
	for (int i = 0; i < N; i++) g[i] = (float)kf_rng_normal(&r);
	dg = device_bytes(g, sizeof g);
	for (int k = 0; k < 2; k++) {
		w[k] = device_bytes(g, sizeof g);
		m8[k] = emu_alloc(N), v8[k] = emu_alloc(N), ms[k] = emu_alloc(BLOCKS * 4), vs[k] = emu_alloc(BLOCKS * 4);
		memset(m8[k], 0, N), memset(v8[k], 0, N), memset(ms[k], 0, BLOCKS * 4), memset(vs[k], 0, BLOCKS * 4);
	}
	launched(kf_cuda_adamw8(&(kf_adamw){ .w = w[0], .g = dg, .n = N }, m8[0], v8[0], ms[0], vs[0], 3, &opts, NULL, NULL));
	launched(kf_cuda_adamw8(&(kf_adamw){ .w = w[1], .g = dg, .n = CUT }, m8[1], v8[1], ms[1], vs[1], 3, &opts, NULL, NULL));
	launched(kf_cuda_adamw8(&(kf_adamw){ .w = w[1] + CUT, .g = dg + CUT, .n = N - CUT, .first = CUT }, m8[1] + CUT, v8[1] + CUT, ms[1] + 1,
		vs[1] + 1, 3, &opts, NULL, NULL));
	assert_memory_equal(w[0], w[1], sizeof g);
	assert_memory_equal(m8[0], m8[1], N);
	assert_memory_equal(v8[0], v8[1], N);
	for (int k = 0; k < 2; k++) emu_free(w[k]), emu_free(ms[k]), emu_free(vs[k]), emu_free(m8[k]), emu_free(v8[k]);
	emu_free(dg);
}

/* Beside a gradient of 1,000 the others' v is far below the smallest code, but no step divides by 0. */
static void adamw8_outlier(void **state)
{
	enum { N = 40 };
	const kf_adamw_opts opts = { .gscale = 1, .lr = 0.01f, .beta1 = 0.9f, .beta2 = 0.95f, .eps = 1e-8f, .step = 1 };
	float g[N], one = 0, *w = emu_alloc(N * 4), *dg, *ms = device_bytes(&one, 4), *vs = device_bytes(&one, 4);
	int8_t *m8 = emu_alloc(N);
	uint8_t *v8 = emu_alloc(N);

	(void)state;
	memset(m8, 0, N), memset(v8, 0, N), memset(w, 0, N * 4);
	for (int i = 0; i < N; i++) g[i] = i == 7 ? 1000 : i == 8 ? 0 : 1e-6f;
	dg = device_bytes(g, sizeof g);
	for (int step = 0; step < 3; step++) {
		launched(kf_cuda_adamw8(&(kf_adamw){ .w = w, .g = dg, .n = N }, m8, v8, ms, vs, 3, &opts, NULL, NULL));
		for (int i = 0; i < N; i++) {
			assert_true((v8[i] > 0) == (i != 8));
			assert_true(fabsf(w[i]) <= 0.05f);
		}
	}
	emu_free(w), emu_free(dg), emu_free(ms), emu_free(vs), emu_free(m8), emu_free(v8);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(convert), cmocka_unit_test(pointwise), cmocka_unit_test(add_bias_and_sums), cmocka_unit_test(norms),
		cmocka_unit_test(rope), cmocka_unit_test(rows), cmocka_unit_test(route), cmocka_unit_test(split), cmocka_unit_test(squares),
		cmocka_unit_test(adamw), cmocka_unit_test(adamw8), cmocka_unit_test(adamw8_parts),
		cmocka_unit_test(adamw8_outlier)
	};

	if (kf_exec_new(&kf_ops_ref, NULL, KF_COMPUTE_F32, &ref, NULL) != KF_OK) return 1;
	return cmocka_run_group_tests(tests, NULL, NULL);
}
