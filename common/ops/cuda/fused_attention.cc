/* Fused attention: cuDNN, through its graph API. Sequences stay packed: offsets in elements take the place of a batch
 * stride, and the log-sum-exps lie as (T, H).
 *
 * A graph is made for shapes rounded up (sequences, the longest, all rows), since making one takes far longer than
 * running it; sequences that are not there have length 0, which cuDNN before 9.25 does not bear: there the number of sequences is the true one, and
 * none is empty. What cuDNN refuses is remembered, and our own kernels do it: also what wants more memory than it is worth (the deterministic gradient
 * on Hopper takes one that grows with the square of the longest sequence). */
extern "C" {
#include "common/ops/cuda/fused_attention.h"
}

#include <cudnn_frontend.h>

#include <cstring>
#include <list>
#include <new>
#include <unordered_map>
#include <vector>

namespace fe = cudnn_frontend;

namespace {

enum uid { Q = 1, K, V, O, STATS, DO, DQ, DK, DV, LEN, OFF_Q, OFF_KV, OFF_STATS };

constexpr int MAX_HEAD = 256;
constexpr size_t MAX_GRAPHS = 256;
constexpr int64_t MAX_WORKSPACE = 512 << 20;
constexpr size_t BEARS_EMPTY = 92500;

/* All that a graph depends on. */
struct shape {
	bool backward, stats;
	int H, G, D, window;
	float scale;
	int64_t S, longest, T;   /* rounded up */

	bool operator==(const shape &o) const
	{
		return backward == o.backward && stats == o.stats && H == o.H && G == o.G && D == o.D && window == o.window &&
			scale == o.scale && S == o.S && longest == o.longest && T == o.T;
	}
};

struct entry {
	shape of;
	std::shared_ptr<fe::graph::Graph> graph;   /* none: refused */
	int64_t workspace = 0;
};

int64_t round_up(int64_t n, int64_t least)
{
	int64_t p = least;

	while (p < n) p *= 2;
	return p;
}

shape shape_of(const kf_cuda_packed *p, bool backward, bool stats)
{
	/* a window that no sequence reaches is none */
	const int window = p->a.window >= p->longest ? 0 : p->a.window;
	const int64_t S = cudnnGetVersion() >= BEARS_EMPTY ? round_up(p->S, 1) : p->S;

	return { backward, stats, p->a.H, p->a.G, p->a.D, window, p->a.scale, S, round_up(p->longest, 128), backward ? round_up(p->T, 1024) : 0 };
}

bool has_empty(const kf_cuda_packed *p)
{
	for (int s = 0; s < p->S; s++)
		if (p->offset[s + 1] == p->offset[s]) return true;
	return false;
}

} // namespace

struct kf_cuda_fused {
	kf_cuda_stream stream = nullptr;
	cudnnHandle_t handle = nullptr;
	char name[64] = "";
	std::list<entry> graphs;             /* the last used first */
	void *workspace = nullptr;
	size_t workspace_size = 0;
	/* Lengths and offsets of the sequences last seen, in elements, on the device: (S), then three of (S + 1). */
	std::vector<int32_t> seen;
	int64_t seen_S = 0;
	int seen_H = 0, seen_G = 0, seen_D = 0;
	int32_t *pinned = nullptr, *bounds = nullptr;
	size_t bounds_size = 0;
};

namespace {

using tensor = std::shared_ptr<fe::graph::Tensor_attributes>;

tensor make(fe::graph::Graph &g, uid id, std::vector<int64_t> dim, std::vector<int64_t> stride, fe::DataType_t type, tensor ragged = nullptr)
{
	auto t = fe::graph::Tensor_attributes().set_uid(id).set_dim(dim).set_stride(stride).set_data_type(type);

	if (ragged) t.set_ragged_offset(ragged);
	return g.tensor(t);
}

void put_out(const tensor &t, uid id, std::vector<int64_t> dim, std::vector<int64_t> stride, fe::DataType_t type, tensor ragged)
{
	t->set_output(true).set_uid(id).set_dim(dim).set_stride(stride).set_data_type(type).set_ragged_offset(ragged);
}

/* The graph of a shape, not yet planned. */
std::shared_ptr<fe::graph::Graph> describe(const shape &s, bool deterministic)
{
	const auto bf16 = fe::DataType_t::BFLOAT16, f32 = fe::DataType_t::FLOAT, i32 = fe::DataType_t::INT32;
	const int64_t B = s.S, H = s.H, G = s.G, D = s.D, L = s.longest;
	const std::vector<int64_t> one = { 1, 1, 1, 1 }, q_dim = { B, H, L, D }, q_stride = { L * H * D, D, H * D, 1 },
		kv_dim = { B, G, L, D }, kv_stride = { L * G * D, D, G * D, 1 }, st_dim = { B, H, L, 1 }, st_stride = { L * H, 1, H, 1 };
	auto graph = std::make_shared<fe::graph::Graph>();
	auto &g = *graph;

	g.set_io_data_type(bf16).set_intermediate_data_type(f32).set_compute_data_type(f32);
	auto len = make(g, LEN, { B, 1, 1, 1 }, one, i32);
	auto off_q = make(g, OFF_Q, { B + 1, 1, 1, 1 }, one, i32), off_kv = make(g, OFF_KV, { B + 1, 1, 1, 1 }, one, i32),
		off_st = make(g, OFF_STATS, { B + 1, 1, 1, 1 }, one, i32);
	auto q = make(g, Q, q_dim, q_stride, bf16, off_q), k = make(g, K, kv_dim, kv_stride, bf16, off_kv),
		v = make(g, V, kv_dim, kv_stride, bf16, off_kv);
	if (!s.backward) {
		auto a = fe::graph::SDPA_attributes().set_name("attention").set_generate_stats(s.stats).set_attn_scale(s.scale)
			.set_padding_mask(true).set_seq_len_q(len).set_seq_len_kv(len).set_causal_mask(true);

		if (s.window) a.set_diagonal_band_left_bound(s.window);
		auto [o, stats] = g.sdpa(q, k, v, a);
		put_out(o, O, q_dim, q_stride, bf16, off_q);
		if (s.stats) put_out(stats, STATS, st_dim, st_stride, f32, off_st);
	} else {
		auto o = make(g, O, q_dim, q_stride, bf16, off_q), d = make(g, DO, q_dim, q_stride, bf16, off_q),
			stats = make(g, STATS, st_dim, st_stride, f32, off_st);
		auto a = fe::graph::SDPA_backward_attributes().set_name("attention_dx").set_attn_scale(s.scale).set_padding_mask(true)
			.set_seq_len_q(len).set_seq_len_kv(len).set_causal_mask(true).set_max_total_seq_len_q(s.T)
			.set_max_total_seq_len_kv(s.T).set_deterministic_algorithm(deterministic);

		if (s.window) a.set_diagonal_band_left_bound(s.window);
		auto [dq, dk, dv] = g.sdpa_backward(q, k, v, o, d, stats, a);
		put_out(dq, DQ, q_dim, q_stride, bf16, off_q);
		put_out(dk, DK, kv_dim, kv_stride, bf16, off_kv);
		put_out(dv, DV, kv_dim, kv_stride, bf16, off_kv);
	}
	return graph;
}

fe::error_t build(const shape &s, bool deterministic, cudnnHandle_t handle, entry *e)
{
	auto graph = describe(s, deterministic);
	auto st = graph->build(handle, { fe::HeurMode_t::A });

	if (st.is_good()) st = graph->get_workspace_size(e->workspace);
	if (st.is_good() && e->workspace <= MAX_WORKSPACE) e->graph = graph;
	return st;
}

/* The graph of a shape; one without a graph inside where cuDNN has none. */
entry *find(kf_cuda_fused *f, const shape &s, bool make_it)
{
	for (auto it = f->graphs.begin(); it != f->graphs.end(); ++it)
		if (it->of == s) {
			f->graphs.splice(f->graphs.begin(), f->graphs, it);
			return &f->graphs.front();
		}
	if (!make_it) return nullptr;
	if (f->graphs.size() >= MAX_GRAPHS) f->graphs.pop_back();
	f->graphs.push_front({ s, nullptr, 0 });
	entry *e = &f->graphs.front();
	try {
		/* A run that is resumed must end with the same numbers: in a fixed order, where cuDNN has one. */
		if (build(s, true, f->handle, e).is_bad() && s.backward) (void)build(s, false, f->handle, e);
	} catch (const std::exception &) {
		e->graph = nullptr;
	}
	return e;
}

kf_status no_memory(size_t bytes, const char *what, kf_err *err)
{
	return kf_fail(err, KF_ENOMEM, "no memory on the device for %s of attention (%.1f MB). Use smaller batches.", what,
		(double)bytes * 1e-6);
}

/* Lengths and offsets of p's sequences, those rounded up to S, on the device: once a batch. */
kf_status see(kf_cuda_fused *f, const kf_cuda_packed *p, int64_t S, kf_err *err)
{
	const size_t n = (size_t)p->S + 1, ints = 4 * (size_t)S + 3, bytes = ints * sizeof(int32_t);
	const int64_t per[3] = { (int64_t)p->a.H * p->a.D, (int64_t)p->a.G * p->a.D, p->a.H };
	int code;

	if (f->seen.size() == n && f->seen_S == S && f->seen_H == p->a.H && f->seen_G == p->a.G && f->seen_D == p->a.D &&
	    std::memcmp(f->seen.data(), p->offset, n * sizeof(int32_t)) == 0)
		return KF_OK;
	f->seen.clear();
	if ((code = kf_cuda_sync(f->stream)) != 0) return kf_cuda_status(code, "attention", err);   /* the last copy may be under way */
	if (bytes > f->bounds_size) {
		kf_cuda_pinned_free(f->pinned);
		kf_cuda_device_free(f->bounds);
		f->bounds_size = 0;
		f->pinned = (int32_t *)kf_cuda_pinned_alloc(bytes);
		f->bounds = (int32_t *)kf_cuda_device_alloc(bytes);
		if (!f->pinned || !f->bounds) return no_memory(bytes, "the offsets", err);
		f->bounds_size = bytes;
	}
	for (int64_t s = 0; s < S; s++) f->pinned[s] = s < p->S ? p->offset[s + 1] - p->offset[s] : 0;
	for (int i = 0; i < 3; i++)
		for (int64_t s = 0; s <= S; s++)
			f->pinned[S + i * (S + 1) + s] = (int32_t)(per[i] * p->offset[s < p->S ? s : p->S]);
	if ((code = kf_cuda_copy_in(f->bounds, f->pinned, bytes, f->stream)) != 0) return kf_cuda_status(code, "attention", err);
	f->seen.assign(p->offset, p->offset + n);
	f->seen_S = S;
	f->seen_H = p->a.H;
	f->seen_G = p->a.G;
	f->seen_D = p->a.D;
	return KF_OK;
}

/* From now on our own kernels do it. */
kf_status refused(const kf_cuda_fused *f, entry *e, const char *why, kf_err *err)
{
	e->graph = nullptr;
	return kf_fail(err, KF_EUNSUPPORTED, "attention: %s does not run this case: %s", f->name, why);
}

kf_status run(kf_cuda_fused *f, const kf_cuda_packed *p, const shape &s, std::unordered_map<int64_t, void *> pack, kf_err *err)
{
	entry *e = find(f, s, true);
	kf_status rc;

	if (!e->graph) return kf_fail(err, KF_EUNSUPPORTED, "attention: %s has no plan for this case", f->name);
	if ((rc = see(f, p, s.S, err)) != KF_OK) return rc;
	if ((size_t)e->workspace > f->workspace_size) {
		kf_cuda_device_free(f->workspace);
		f->workspace_size = 0;
		f->workspace = kf_cuda_device_alloc((size_t)e->workspace);
		if (!f->workspace) return refused(f, e, "no memory for its workspace", err);
		f->workspace_size = (size_t)e->workspace;
	}
	pack[LEN] = f->bounds;
	pack[OFF_Q] = f->bounds + s.S;
	pack[OFF_KV] = f->bounds + s.S + (s.S + 1);
	pack[OFF_STATS] = f->bounds + s.S + 2 * (s.S + 1);
	if (!s.backward && !s.stats) pack.erase(OFF_STATS);
	try {
		auto st = e->graph->execute(f->handle, pack, f->workspace);

		if (st.is_good()) return KF_OK;
		/* a plan may be refused when it is to run; of a device that failed nothing is to be had */
		if (cudaPeekAtLastError() == cudaSuccess) return refused(f, e, st.get_message().c_str(), err);
		return kf_fail(err, KF_EIO, "attention: %s failed: %s", f->name, st.get_message().c_str());
	} catch (const std::exception &x) {
		return kf_fail(err, KF_EIO, "attention: %s failed: %s", f->name, x.what());
	}
}

} // namespace

kf_status kf_cuda_fused_new(const kf_cuda_device *d, kf_cuda_fused **out, kf_err *err)
{
	kf_cuda_fused *f = new (std::nothrow) kf_cuda_fused;
	const size_t version = cudnnGetVersion();
	cudnnStatus_t st;

	*out = nullptr;
	if (!f) return kf_fail(err, KF_ENOMEM, "no memory for attention's plans");
	f->stream = d->stream;
	std::snprintf(f->name, sizeof f->name, "cuDNN %zu.%zu.%zu", version / 10000, version % 10000 / 100, version % 100);
	if ((st = cudnnCreate(&f->handle)) != CUDNN_STATUS_SUCCESS || (st = cudnnSetStream(f->handle, d->stream)) != CUDNN_STATUS_SUCCESS) {
		kf_cuda_fused_free(f);
		return kf_fail(err, KF_EIO, "cuDNN does not start: %s", cudnnGetErrorString(st));
	}
	*out = f;
	return KF_OK;
}

void kf_cuda_fused_free(kf_cuda_fused *f)
{
	if (!f) return;
	f->graphs.clear();
	if (f->handle) cudnnDestroy(f->handle);
	kf_cuda_device_free(f->workspace);
	kf_cuda_device_free(f->bounds);
	kf_cuda_pinned_free(f->pinned);
	delete f;
}

bool kf_cuda_fused_fits(kf_cuda_fused *f, const kf_cuda_packed *p, bool backward)
{
	const kf_attn *a = &p->a;

	if (!f || a->slopes || a->cap > 0 || a->D % 8 != 0 || a->D > MAX_HEAD || (int64_t)p->T * a->H * a->D > INT32_MAX) return false;
	if (cudnnGetVersion() < BEARS_EMPTY && has_empty(p)) return false;
	for (int stats = backward; stats < 2; stats++) {
		const entry *e = find(f, shape_of(p, backward, stats), false);

		if (e && !e->graph) return false;
	}
	return true;
}

kf_status kf_cuda_fused_forward(kf_cuda_fused *f, const kf_cuda_packed *p, void *out, float *lse, const void *q,
	const void *k, const void *v, kf_err *err)
{
	std::unordered_map<int64_t, void *> pack = { { Q, const_cast<void *>(q) }, { K, const_cast<void *>(k) },
		{ V, const_cast<void *>(v) }, { O, out } };

	if (lse) pack[STATS] = lse;
	return run(f, p, shape_of(p, false, lse != nullptr), pack, err);
}

kf_status kf_cuda_fused_backward(kf_cuda_fused *f, const kf_cuda_packed *p, void *dq, void *dk, void *dv,
	const void *dout, const void *out, const float *lse, const void *q, const void *k, const void *v, kf_err *err)
{
	return run(f, p, shape_of(p, true, true), { { Q, const_cast<void *>(q) }, { K, const_cast<void *>(k) },
		{ V, const_cast<void *>(v) }, { O, const_cast<void *>(out) }, { STATS, const_cast<float *>(lse) },
		{ DO, const_cast<void *>(dout) }, { DQ, dq }, { DK, dk }, { DV, dv } }, err);
}

const char *kf_cuda_fused_name(const kf_cuda_fused *f)
{
	return f ? f->name : "none";
}
