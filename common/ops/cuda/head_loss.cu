/* head_loss on the device: the kernels around the products (cpu/head_loss.c has the method, ops.h the loss).
 *
 * fold and back are limited by memory: 4 bytes read per logit, and as many as a number has written by back; settle is a
 * warp a row in double, over its candidates alone. */
#include "common/ops/cuda/head.cuh"

namespace {

__device__ inline int label_of(const kf_cuda_loss &q, int t) { return q.labels ? q.labels[t] : -1; }

/* Row t's candidates in ids, q, cand: [first, first + number). */
__device__ inline uint32_t first_of(const kf_cuda_loss &q, int t) { return q.off ? q.off[t] - q.off[0] : 0; }
__device__ inline int number_of(const kf_cuda_loss &q, int t) { return q.off ? (int)(q.off[t + 1] - q.off[t]) : 0; }

__global__ void __launch_bounds__(HEAD_THREADS) begin_kernel(kf_cuda_loss q)
{
	const int t = (int)(blockIdx.x * HEAD_THREADS + threadIdx.x);
	const kf_cuda_lse none = { 0, -INFINITY, 0 };

	if (t >= q.T) return;
	q.sum[t] = none;
	if (q.sum2) q.sum2[t] = none;
	q.label[t] = 0;
}

/* With the rest as an outcome, candidates are left out of the sum: near P_S = 1 what is left stays exact. */
__global__ void __launch_bounds__(HEAD_THREADS) fold_kernel(kf_cuda_loss q, const float *logits, int64_t ld, int v0, int n, bool wide)
{
	KF_DYNAMIC_SHARED(float, z);
	const int t = (int)blockIdx.x, number = number_of(q, t), label = label_of(q, t) - v0;
	const uint32_t first = first_of(q, t);
	part sum;

	stage_tile(z, logits + (size_t)t * (size_t)ld, n, q.cap, wide);
	if (threadIdx.x == 0 && label >= 0 && label < n) q.label[t] = z[label];
	__syncthreads();
	for (int j = (int)threadIdx.x; j < number; j += HEAD_THREADS) {
		const int at = q.ids[first + (uint32_t)j] - v0;

		if (at < 0 || at >= n) continue;
		q.cand[first + (uint32_t)j] = z[at];
		if (q.rest) z[at] = -INFINITY;
	}
	__syncthreads();
	sum = block_exp_sum(z, 0, n, 1);
	if (threadIdx.x == 0) lse_add(&q.sum[t], sum.max, sum.sum);
	if (q.sum2) {
		sum = block_exp_sum(z, 0, n, (float)(1 / q.temperature));
		if (threadIdx.x == 0) lse_add(&q.sum2[t], sum.max, sum.sum);
	}
}

/* ---- settle ---- */

struct row_loss {
	double lse, off, lse2;       /* of all logits; of those off the candidates; of all at the temperature */
	double lambda, c1, m1, c2, m2;
	const float *q;
	const float *z;              /* (n) the candidates' logits */
	float *dz;                   /* (n) their dlogits, unscaled */
	int n;
};

/* q to 1/tau, relative to the largest's, which does not vanish however small tau is; as it is at 1. */
__device__ inline double raise(double q, double largest, double tau) { return tau == 1 ? q : pow(q / largest, 1 / tau); }
__device__ inline double log_of_sum(double sum, double largest, double tau) { return tau == 1 ? log(sum) : log(sum) + log(largest) / tau; }

/* ops.h: outcomes are the candidates and "another token", both sides raised to 1/tau and normalised again. */
__device__ inline double fuse_rest(const kf_cuda_loss &p, row_loss *r, double sum_q, int lane)
{
	const double tau = p.temperature;
	const bool off = r->off > -INFINITY;   /* a vocabulary of candidates has no rest */
	const double rest = off && sum_q < 1 ? 1 - sum_q : 0, a_rest = off ? r->off - r->lse : -INFINITY;
	double top = -INFINITY, top_q = 0, np = 0, nq = 0, loss = 0, log_np, log_nq, g_rest = 0;

	for (int i = lane; i < r->n; i += 32) top = fmax(top, (double)r->z[i] - r->lse);
	for (int i = lane; i < r->n; i += 32) top_q = fmax(top_q, (double)r->q[i]);
	top = fmax(warp_max(top), a_rest);
	top_q = fmax(warp_max(top_q), rest);
	for (int i = lane; i < r->n; i += 32) {
		np += exp(((double)r->z[i] - r->lse - top) / tau);
		if (r->q[i] > 0) nq += raise(r->q[i], top_q, tau);
	}
	np = warp_sum(np) + (off ? exp((a_rest - top) / tau) : 0);
	nq = warp_sum(nq) + (rest > 0 ? raise(rest, top_q, tau) : 0);
	log_np = top / tau + log(np);
	log_nq = log_of_sum(nq, top_q, tau);
	for (int i = lane; i <= r->n; i += 32) {   /* the last is the rest */
		const double q = i < r->n ? (double)r->q[i] : rest, a = i < r->n ? (double)r->z[i] - r->lse : a_rest;
		const double lp = a / tau - log_np;
		double qt = 0, g;

		if (q > 0 && nq > 0) {
			qt = raise(q, top_q, tau) / nq;
			loss += qt * ((p.kl ? log(q) / tau - log_nq : 0) - lp);
		}
		g = nq > 0 ? (1 - r->lambda) * tau * (exp(lp) - qt) : 0;
		if (i < r->n) r->dz[i] = (float)((r->c1 * exp(a) + g) * (double)p.scale);
		else g_rest = g;
	}
	g_rest = warp_sum(g_rest);   /* one lane has it */
	/* Off the candidates both terms are multiples of exp(z): one exponential does. */
	r->c1 = off ? r->c1 * exp(r->off - r->lse) + g_rest : 0;
	r->m1 = off ? r->off : 0;
	return tau * tau * warp_sum(loss);
}

__device__ inline double fuse_renormalize(const kf_cuda_loss &p, row_loss *r, int lane)
{
	const double tau = p.temperature, share = (1 - r->lambda) * tau;
	double nq = 0, top_q = 0, loss = 0;

	for (int i = lane; i < r->n; i += 32) top_q = fmax(top_q, (double)r->q[i]);
	top_q = warp_max(top_q);
	for (int i = lane; i < r->n; i += 32) if (r->q[i] > 0) nq += raise(r->q[i], top_q, tau);
	nq = warp_sum(nq);
	for (int i = lane; i < r->n; i += 32) {
		const double lp = (double)r->z[i] / tau - r->lse2;
		double qt = 0;

		if (r->q[i] > 0) {
			qt = raise(r->q[i], top_q, tau) / nq;
			loss += qt * ((p.kl ? log((double)r->q[i]) / tau - log_of_sum(nq, top_q, tau) : 0) - lp);
		}
		r->dz[i] = (float)((r->c1 * exp((double)r->z[i] - r->lse) + share * (exp(lp) - qt)) * (double)p.scale);
	}
	if (tau == 1) {
		r->c1 += share;
	} else {
		r->c2 = share;
		r->m2 = r->lse2;
	}
	return tau * tau * warp_sum(loss);
}

__global__ void __launch_bounds__(HEAD_THREADS) settle_kernel(kf_cuda_loss p)
{
	const int t = (int)(blockIdx.x * blockDim.y + threadIdx.y), lane = (int)threadIdx.x;

	if (t >= p.T) return;
	const int label = label_of(p, t), n = number_of(p, t);
	const uint32_t first = first_of(p, t);
	row_loss r = { 0, 0, 0, 1, 0, 0, 0, 0, p.q + first, p.cand + first, p.dcand + first, n };
	double sum_q = 0, fusion = NAN, clm = NAN, loss = 0, dlabel;
	bool fused;

	for (int i = lane; i < n; i += 32) sum_q += (double)r.q[i];
	sum_q = warp_sum(sum_q);
	fused = n > 0 && (p.rest || sum_q > 0);
	r.off = r.lse = lse_log(p.sum[t]);
	if (p.rest && n > 0) {
		double top = r.off, s = 0;

		for (int i = lane; i < n; i += 32) top = fmax(top, (double)r.z[i]);
		top = warp_max(top);
		for (int i = lane; i < n; i += 32) s += exp((double)r.z[i] - top);
		s = warp_sum(s) + (r.off > -INFINITY || r.off != r.off ? exp(r.off - top) : 0);
		r.lse = top + log(s);
	}
	r.lse2 = p.temperature == 1 ? r.lse : p.sum2 ? lse_log(p.sum2[t]) : 0;
	if (fused) r.lambda = 1 - (p.weight ? (double)p.weight[t] : 1) * (1 - p.lambda);
	r.c1 = label >= 0 ? r.lambda : 0;
	r.m1 = r.lse;
	dlabel = -r.c1 * (double)p.scale;
	if (label >= 0) {
		clm = r.lse - (double)p.label[t];
		loss += r.lambda * clm;
	}
	if (fused) {
		fusion = p.rest ? fuse_rest(p, &r, sum_q, lane) : fuse_renormalize(p, &r, lane);
		loss += (1 - r.lambda) * fusion;
	} else {
		for (int i = lane; i < n; i += 32) r.dz[i] = (float)(r.c1 * exp((double)r.z[i] - r.lse) * (double)p.scale);
	}
	if (lane == 0) {
		const size_t T = (size_t)p.T;

		p.row[t] = fused || label >= 0 ? loss : NAN;
		p.row[T + (size_t)t] = clm;
		p.row[2 * T + (size_t)t] = fusion;
		p.coef[t] = (float)(r.c1 * (double)p.scale);
		p.coef[T + (size_t)t] = (float)r.m1;
		p.coef[2 * T + (size_t)t] = (float)(r.c2 * (double)p.scale);
		p.coef[3 * T + (size_t)t] = (float)r.m2;
		p.coef[4 * T + (size_t)t] = (float)dlabel;
		if (!(fabs(r.lse) < INFINITY)) atomicMin(p.bad, t);
	}
}

/* The block's rows, added to the sums in one order. */
__global__ void __launch_bounds__(HEAD_THREADS) sums_kernel(kf_cuda_loss p)
{
	KF_SHARED(double, sum, [HEAD_THREADS]);
	KF_SHARED(int, count, [HEAD_THREADS]);

	for (int part = 0; part < 3; part++) {
		double s = 0;
		int n = 0;

		for (int t = (int)threadIdx.x; t < p.T; t += HEAD_THREADS) {
			const double v = p.row[(size_t)part * (size_t)p.T + (size_t)t];

			if (v != v) continue;   /* none; or not finite, which bad says */
			s += v;
			n++;
		}
		sum[threadIdx.x] = s;
		count[threadIdx.x] = n;
		__syncthreads();
		for (int d = HEAD_THREADS / 2; d; d >>= 1) {
			if ((int)threadIdx.x < d) {
				sum[threadIdx.x] += sum[threadIdx.x + d];
				count[threadIdx.x] += count[threadIdx.x + d];
			}
			__syncthreads();
		}
		if (threadIdx.x == 0) {
			(part == 0 ? p.sums->loss : part == 1 ? p.sums->clm : p.sums->fusion) += sum[0];
			(part == 0 ? p.sums->rows : part == 1 ? p.sums->clm_rows : p.sums->fusion_rows) += count[0];
		}
		__syncthreads();
	}
}

/* ---- back ---- */

template <int N, typename T>
__global__ void __launch_bounds__(HEAD_THREADS) back_kernel(kf_cuda_loss q, T *dlogits, const float *logits, int64_t ld, int v0, int n)
{
	const int t = (int)blockIdx.x, number = number_of(q, t), label = label_of(q, t);
	const uint32_t first = first_of(q, t);
	const size_t rows = (size_t)q.T;
	const float c1 = q.coef[t], m1 = q.coef[rows + (size_t)t], c2 = q.coef[2 * rows + (size_t)t], m2 = q.coef[3 * rows + (size_t)t],
		dlabel = q.coef[4 * rows + (size_t)t], per_t = (float)(1 / q.temperature), per_cap = q.cap > 0 ? 1 / q.cap : 0;
	const float *z = logits + (size_t)t * (size_t)ld;
	T *dz = dlogits + (size_t)t * (size_t)n;

	for (int i = (int)threadIdx.x * N; i < n; i += HEAD_THREADS * N) {
		float v[N];

		kf_load<N>(z + i, v);
#pragma unroll
		for (int j = 0; j < N; j++) {
			const float x = cap_logit(v[j], q.cap), u = x * per_cap;
			float y = c1 != 0 ? c1 * __expf(x - m1) : 0;

			if (c2 != 0) y += c2 * __expf(per_t * x - m2);
			if (v0 + i + j == label) y += dlabel;
			v[j] = y * (1 - u * u);
		}
		kf_store<N>(dz + i, v);
	}
	if (!number) return;
	__syncthreads();   /* what the candidates' places have is written */
	for (int j = (int)threadIdx.x; j < number; j += HEAD_THREADS) {
		const int id = q.ids[first + (uint32_t)j], at = id - v0;
		const float u = q.cand[first + (uint32_t)j] * per_cap;

		if (at >= 0 && at < n) kf_put(dz + at, (q.dcand[first + (uint32_t)j] + (id == label ? dlabel : 0)) * (1 - u * u));
	}
}

template <int N, typename T>
int launch_back(const kf_cuda_loss &q, T *dlogits, const float *logits, int64_t ld, int v0, int n, kf_cuda_stream s)
{
	const auto kernel = back_kernel<N, T>;

	return KF_LAUNCH(kernel, dim3((unsigned)q.T), dim3(HEAD_THREADS), 0, s, q, dlogits, logits, ld, v0, n);
}

template <typename T>
int run_back(const kf_cuda_loss &q, T *dlogits, const float *logits, int64_t ld, int v0, int n, kf_cuda_stream s)
{
	return wide_tile(logits, ld, n) && kf_wide(dlogits) ? launch_back<4, T>(q, dlogits, logits, ld, v0, n, s)
		: launch_back<1, T>(q, dlogits, logits, ld, v0, n, s);
}

} // namespace

int kf_cuda_loss_begin(const kf_cuda_loss *q, kf_cuda_stream s)
{
	return q->T > 0 ? KF_LAUNCH(begin_kernel, dim3(((unsigned)q->T + HEAD_THREADS - 1) / HEAD_THREADS), dim3(HEAD_THREADS), 0, s, *q) : 0;
}

int kf_cuda_loss_fold(const kf_cuda_loss *q, const float *logits, int64_t ld, int v0, int n, kf_cuda_stream s)
{
	if (q->T <= 0 || n <= 0) return 0;
	if (n > KF_CUDA_TILE) return (int)cudaErrorInvalidValue;
	return KF_LAUNCH(fold_kernel, dim3((unsigned)q->T), dim3(HEAD_THREADS), (size_t)n * sizeof(float), s, *q, logits, ld, v0, n,
		wide_tile(logits, ld, n));
}

int kf_cuda_loss_settle(const kf_cuda_loss *q, kf_cuda_stream s)
{
	int st;

	if (q->T <= 0) return 0;
	st = KF_LAUNCH(settle_kernel, dim3(((unsigned)q->T + 7) / 8), dim3(32, 8), 0, s, *q);
	return st ? st : KF_LAUNCH(sums_kernel, dim3(1), dim3(HEAD_THREADS), 0, s, *q);
}

int kf_cuda_loss_back(const kf_cuda_loss *q, kf_num_type type, void *dlogits, const float *logits, int64_t ld, int v0, int n,
	kf_cuda_stream s)
{
	if (q->T <= 0 || n <= 0) return 0;
	return KF_BY_TYPE(type, T, run_back(*q, (T *)dlogits, logits, ld, v0, n, s));
}
