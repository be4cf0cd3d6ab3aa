/* Elementwise kernels. All are limited by memory: bytes moved per element are stated with each, for elements of
 * s bytes (4, or 2 for bf16). Loads and stores are of 16 bytes where every pointer allows it; the arithmetic hides behind them. */
#include "common/ops/cuda/device.cuh"

namespace {

enum { THREADS = 256 };

/* f.at<N>(i): elements [i, i + N). */
template <int N, typename F> __global__ void __launch_bounds__(THREADS) each(F f, size_t n)
{
	const size_t first = (size_t)blockIdx.x * THREADS + threadIdx.x, stride = (size_t)gridDim.x * THREADS;

	for (size_t i = first; i < n / N; i += stride) f.template at<N>(i * N);
	for (size_t i = n / N * N + first; N > 1 && i < n; i += stride) f.template at<1>(i);
}

template <int N, typename F> int run(F f, size_t n, kf_cuda_stream s)
{
	const auto kernel = each<N, F>;

	return n ? KF_LAUNCH(kernel, dim3(kf_blocks(n, (size_t)THREADS * N)), dim3(THREADS), 0, s, f, n) : 0;
}

/* s from + s to */
template <typename A, typename B> struct convert {
	A *dst;
	const B *src;
	template <int N> __device__ void at(size_t i) const
	{
		float v[N];

		kf_load<N>(src + i, v);
		kf_store<N>(dst + i, v);
	}
};

template <typename A, typename B> int run_convert(A *dst, const B *src, size_t n, kf_cuda_stream s)
{
	const convert<A, B> f = { dst, src };

	return kf_wide(dst, src) ? run<8>(f, n, s) : run<1>(f, n, s);
}

/* s */
template <typename T> struct fill {
	T *y;
	float value;
	template <int N> __device__ void at(size_t i) const
	{
		float v[N];

#pragma unroll
		for (int j = 0; j < N; j++) v[j] = value;
		kf_store<N>(y + i, v);
	}
};

/* 3 s */
template <typename T> struct add {
	T *y;
	const T *in;
	template <int N> __device__ void at(size_t i) const
	{
		float a[N], b[N];

		kf_load<N>(y + i, a);
		kf_load<N>(in + i, b);
#pragma unroll
		for (int j = 0; j < N; j++) a[j] += b[j];
		kf_store<N>(y + i, a);
	}
};

/* 2 s: bias stays in cache. N divides C where N > 1. */
template <typename T> struct add_bias {
	T *y;
	const float *bias;
	size_t C;
	template <int N> __device__ void at(size_t i) const
	{
		float a[N], b[N];

		kf_load<N>(y + i, a);
		kf_load<N>(bias + i % C, b);
#pragma unroll
		for (int j = 0; j < N; j++) a[j] += b[j];
		kf_store<N>(y + i, a);
	}
};

/* act(g) and its derivative: see ref/pointwise.c. */
template <int ACT> __device__ inline float activate(float g, float *slope)
{
	if (ACT == KF_ACT_GELU) {
		const float phi = 0.5f * erfcf(-g * 0.70710678118654752f);

		*slope = phi + g * expf(-g * g / 2) * 0.39894228040143268f;
		return g * phi;
	} else if (ACT == KF_ACT_SILU) {
		const float s = 1 / (1 + __expf(-g));   /* overflows to 0 where it should */

		*slope = s * (1 + g * (1 - s));
		return g * s;
	} else {
		const float a = 0.79788456080286536f, b = 0.044715f;
		const float th = tanhf(a * (g + b * g * g * g));

		*slope = 0.5f * (1 + th) + 0.5f * g * (1 - th * th) * a * (1 + 3 * b * g * g);
		return 0.5f * g * (1 + th);
	}
}

/* 3 s, or 2 s without up */
template <typename T, int ACT> struct glu {
	T *y;
	const T *gate, *up;
	template <int N> __device__ void at(size_t i) const
	{
		float g[N], u[N], slope;

		kf_load<N>(gate + i, g);
		if (up) kf_load<N>(up + i, u);
#pragma unroll
		for (int j = 0; j < N; j++) g[j] = activate<ACT>(g[j], &slope) * (up ? u[j] : 1);
		kf_store<N>(y + i, g);
	}
};

/* 5 s, or 3 s without up */
template <typename T, int ACT> struct glu_dx {
	T *dgate, *dup;
	const T *dy, *gate, *up;
	template <int N> __device__ void at(size_t i) const
	{
		float g[N], u[N], d[N], slope;

		kf_load<N>(gate + i, g);
		kf_load<N>(dy + i, d);
		if (up) kf_load<N>(up + i, u);
#pragma unroll
		for (int j = 0; j < N; j++) {
			const float a = activate<ACT>(g[j], &slope);

			g[j] = d[j] * (up ? u[j] : 1) * slope;
			u[j] = d[j] * a;
		}
		kf_store<N>(dgate + i, g);
		if (dup) kf_store<N>(dup + i, u);
	}
};

template <typename T, int ACT> int run_glu(T *y, const T *gate, const T *up, size_t n, kf_cuda_stream s)
{
	const glu<T, ACT> f = { y, gate, up };

	return KF_BY_WIDTH(kf_wide(y, gate, up), T, N, run<N>(f, n, s));
}

template <typename T, int ACT>
int run_glu_dx(T *dgate, T *dup, const T *dy, const T *gate, const T *up, size_t n, kf_cuda_stream s)
{
	const glu_dx<T, ACT> f = { dgate, dup, dy, gate, up };

	return KF_BY_WIDTH(kf_wide(dgate, dup, dy, gate, up), T, N, run<N>(f, n, s));
}

template <typename T> int run_fill(T *y, float value, size_t n, kf_cuda_stream s)
{
	const fill<T> f = { y, value };

	return KF_BY_WIDTH(kf_wide(y), T, N, run<N>(f, n, s));
}

template <typename T> int run_add(T *y, const T *in, size_t n, kf_cuda_stream s)
{
	const add<T> f = { y, in };

	return KF_BY_WIDTH(kf_wide(y, in), T, N, run<N>(f, n, s));
}

template <typename T> int run_add_bias(T *y, const float *bias, int64_t rows, int C, kf_cuda_stream s)
{
	const add_bias<T> f = { y, bias, (size_t)C };

	return KF_BY_WIDTH(kf_wide(y, bias) && C % (16 / sizeof(T)) == 0, T, N, run<N>(f, (size_t)rows * (size_t)C, s));
}

} // namespace

int kf_cuda_convert(kf_num_type to, void *dst, kf_num_type from, const void *src, size_t n, kf_cuda_stream s)
{
	return KF_BY_TYPE(to, A, KF_BY_TYPE(from, B, run_convert((A *)dst, (const B *)src, n, s)));
}

int kf_cuda_fill(kf_num_type type, void *y, float value, size_t n, kf_cuda_stream s)
{
	return KF_BY_TYPE(type, T, run_fill((T *)y, value, n, s));
}

int kf_cuda_add(kf_num_type type, void *y, const void *in, size_t n, kf_cuda_stream s)
{
	return KF_BY_TYPE(type, T, run_add((T *)y, (const T *)in, n, s));
}

int kf_cuda_add_bias(kf_num_type type, void *y, const float *bias, int64_t T_, int C, kf_cuda_stream s)
{
	return KF_BY_TYPE(type, T, run_add_bias((T *)y, bias, T_, C, s));
}

#define BY_ACT(act, ACT, ...) \
	((act) == KF_ACT_SILU ? [&] { enum { ACT = KF_ACT_SILU }; return __VA_ARGS__; }() : \
	(act) == KF_ACT_GELU ? [&] { enum { ACT = KF_ACT_GELU }; return __VA_ARGS__; }() : \
	[&] { enum { ACT = KF_ACT_GELU_TANH }; return __VA_ARGS__; }())

int kf_cuda_glu(kf_num_type type, void *y, const void *gate, const void *up, kf_act act, size_t n, kf_cuda_stream s)
{
	return KF_BY_TYPE(type, T, BY_ACT(act, ACT, run_glu<T, ACT>((T *)y, (const T *)gate, (const T *)up, n, s)));
}

int kf_cuda_glu_dx(kf_num_type type, void *dgate, void *dup, const void *dy, const void *gate, const void *up,
	kf_act act, size_t n, kf_cuda_stream s)
{
	return KF_BY_TYPE(type, T, BY_ACT(act, ACT,
		run_glu_dx<T, ACT>((T *)dgate, (T *)dup, (const T *)dy, (const T *)gate, (const T *)up, n, s)));
}
