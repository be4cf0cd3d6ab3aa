/* The emulator's scheduler. One host thread; each device thread has a stack of its own and is switched to by
 * exchanging stack pointers. What a thread waits for is written in its record; whoever comes last settles it
 * for all of its group. */
#include "tests/emu/emu.h"

#include <pthread.h>
#include <sys/mman.h>
#include <cstdarg>
#include <cstdio>
#include <cstdlib>
#include <map>
#include <string>
#include <vector>

#include "tests/emu/include/cuda_bf16.h"
#include "tests/emu/include/cuda_runtime.h"

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#define ASAN 1
#else
#define ASAN 0
#endif
#if !defined(__x86_64__)
#include <ucontext.h>
#endif

namespace {

enum { STACK = 128 << 10, GUARD = 4096, MAX_THREADS = 1024, EDGE = 64, EDGE_BYTE = 0xa5 };
enum { DEFAULT_SHARED = 48 << 10, MAX_SHARED = 99 << 10 };   /* bytes: without asking; of the smallest devices (8.6, 8.9, 12.0) */

enum state { RUNNABLE, WAITING, ENDED };

struct thread {
	emu_place place;
	state st;
	emu_op op;             /* what it waits for, where WAITING: */
	unsigned mask;
	uint64_t value;        /* its own; the result afterwards */
	int arg, width, line;
	const char *file;
	uint32_t synced;       /* __syncwarps it took part in */
	char *stack;
	void *fake;            /* the address sanitizer's */
#if defined(__x86_64__)
	void *sp;
#else
	ucontext_t context;
#endif
};

struct emulator {
	thread threads[MAX_THREADS];
	int n = 0, ended = 0;          /* threads of a block; of them ended */
	uint32_t barriers = 0;         /* that the block has passed */
	int at_barrier = 0, in_warp[MAX_THREADS / 32] = { 0 };   /* waiting at a barrier; lanes at warp operations */
	std::vector<int> order;        /* (n) in which threads take turns; a sweep begins at from, turn is in it */
	int from = 0, turn = 0;
	thread *self = nullptr;
	void (*run)(void *) = nullptr;
	void *arg = nullptr;
	bool failed = false;
	std::string error;
	emu_turns turns = EMU_FORWARD;
	unsigned seed = 1;
	long launches = 0, blocks = 0;
	char *dynamic = nullptr;       /* shared memory of the block */
	size_t dynamic_bytes = 0;
	std::map<const void *, std::pair<char *, size_t>> statics;
	std::map<const void *, int> attribute;
	std::map<char *, size_t> live; /* emu_alloc's */
	size_t memory = (size_t)EMU_MEMORY_MB << 20, used = 0;   /* bytes of the device; in `live` */
	long fail_in = 0;              /* so many more things are asked until one fails; 0: none does */
#if defined(__x86_64__)
	void *sp;                      /* the scheduler's */
#else
	ucontext_t context;
#endif
	void *fake = nullptr;
	void *bottom = nullptr;        /* the scheduler's stack, for the sanitizer */
	size_t size = 0;
} E;

void fail(const char *format, ...) __attribute__((format(printf, 1, 2)));
void fail(const char *format, ...)
{
	char text[512];
	va_list ap;

	va_start(ap, format);
	vsnprintf(text, sizeof text, format, ap);
	va_end(ap);
	if (!E.failed) E.error = text;
	E.failed = true;
}

std::string who(const thread *t)
{
	char text[160];

	snprintf(text, sizeof text, "thread (%u, %u, %u) of block (%u, %u, %u)", t->place.thread.x, t->place.thread.y,
		t->place.thread.z, t->place.block.x, t->place.block.y, t->place.block.z);
	return text;
}

/* ---- switching ---- */

#if defined(__x86_64__)
/* Save what the callee must keep, exchange stacks, take back what was saved there. */
extern "C" void emu_switch(void **save, void *to);
asm(".text\n.globl emu_switch\n.type emu_switch, @function\nemu_switch:\n"
	"pushq %rbp\npushq %rbx\npushq %r12\npushq %r13\npushq %r14\npushq %r15\n"
	"movq %rsp, (%rdi)\nmovq %rsi, %rsp\n"
	"popq %r15\npopq %r14\npopq %r13\npopq %r12\npopq %rbx\npopq %rbp\nret\n.size emu_switch, .-emu_switch\n");
#endif

thread *at_turn(int turn)
{
	return &E.threads[E.order[(size_t)(E.from + turn < E.n ? E.from + turn : E.from + turn - E.n)]];
}

/* The next in this sweep that can run; NULL: the sweep is over. */
thread *next_in_sweep(void)
{
	while (++E.turn < E.n) {
		thread *t = at_turn(E.turn);

		if (t->st != RUNNABLE) continue;
#if defined(__x86_64__)
		if (E.turn + 2 < E.n) {   /* most of a switch is waiting for the stack to come from memory */
			const char *soon = (const char *)at_turn(E.turn + 2)->sp;

			__builtin_prefetch(soon);
			__builtin_prefetch(soon + 64);
		}
#endif
		return t;
	}
	return nullptr;
}

/* From one thread, or the scheduler (NULL), to another. */
void go(thread *from, thread *to)
{
	if (to) {
		E.self = to;
		emu_here = &to->place;
		emu_now.thread = (uint32_t)(to - E.threads);
		emu_now.barrier = E.barriers;
		emu_now.warp = to->synced;
		emu_now.stack = to->stack;
		emu_now.stack_end = to->stack + STACK;
	}
#if ASAN
	__sanitizer_start_switch_fiber(!from ? &E.fake : from->st == ENDED ? nullptr : &from->fake, to ? to->stack : E.bottom,
		to ? (size_t)STACK : E.size);
#endif
#if defined(__x86_64__)
	emu_switch(from ? &from->sp : &E.sp, to ? to->sp : E.sp);
#else
	swapcontext(from ? &from->context : &E.context, to ? &to->context : &E.context);
#endif
#if ASAN
	__sanitizer_finish_switch_fiber(from ? from->fake : E.fake, nullptr, nullptr);
#endif
}

void body(void)
{
#if ASAN
	__sanitizer_finish_switch_fiber(nullptr, nullptr, nullptr);
#endif
	E.run(E.arg);
	E.self->st = ENDED;
	E.ended++;
	go(E.self, next_in_sweep());
	abort();
}

bool prepare(thread *t)
{
	if (!t->stack) {
		char *p = (char *)mmap(nullptr, STACK + GUARD, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

		if (p == MAP_FAILED || mprotect(p, GUARD, PROT_NONE)) return false;
		t->stack = p + GUARD;
	}
	t->st = RUNNABLE;
	t->synced = 0;
	t->fake = nullptr;
#if ASAN
	__asan_unpoison_memory_region(t->stack, STACK);   /* of a thread that was left where it stood */
#endif
#if defined(__x86_64__)
	/* stacks begin at different places of a page: else all their ends are in the same few lines of the cache */
	void **sp = (void **)(t->stack + STACK - (t - E.threads) * 5 % 64 * 64);

	*--sp = nullptr;               /* alignment, as after a call */
	*--sp = (void *)body;
	for (int i = 0; i < 6; i++) *--sp = nullptr;
	t->sp = sp;
#else
	getcontext(&t->context);
	t->context.uc_stack.ss_sp = t->stack;
	t->context.uc_stack.ss_size = STACK;
	t->context.uc_link = nullptr;
	makecontext(&t->context, body, 0);
#endif
	return true;
}

/* ---- waiting ---- */

bool same_place(const thread *a, const thread *b)
{
	return a->op == b->op && a->line == b->line && (a->file == b->file || !strcmp(a->file, b->file));
}

const char *name_of(emu_op op)
{
	switch (op) {
	case EMU_SYNCTHREADS: case EMU_SYNCTHREADS_OR: case EMU_SYNCTHREADS_COUNT: return "__syncthreads";
	case EMU_SYNCWARP: return "__syncwarp";
	case EMU_SHFL: return "__shfl_sync";
	case EMU_SHFL_UP: return "__shfl_up_sync";
	case EMU_SHFL_DOWN: return "__shfl_down_sync";
	case EMU_SHFL_XOR: return "__shfl_xor_sync";
	case EMU_BALLOT: return "vote";
	case EMU_MMA: return "mma";
	case EMU_LDMATRIX: return "ldmatrix";
	}
	return "?";
}

/* Is the block at the same barrier? Then all go on. */
void settle_block(const thread *t)
{
	uint64_t count = 0;

	if (++E.at_barrier + E.ended < E.n) return;   /* others may yet come */
	for (int i = 0; i < E.n; i++) {
		const thread *o = &E.threads[i];

		if (o->st == ENDED) {
			fail("%s has ended, but %s waits for it at %s:%d", who(o).c_str(), who(t).c_str(), t->file, t->line);
			return;
		}
		if (!same_place(o, t)) {
			fail("barriers differ: %s is at %s:%d, %s at %s:%d", who(t).c_str(), t->file, t->line, who(o).c_str(),
				o->file, o->line);
			return;
		}
		count += o->value;
	}
	for (int i = 0; i < E.n; i++) {
		E.threads[i].value = t->op == EMU_SYNCTHREADS_OR ? count > 0 : count;
		E.threads[i].st = RUNNABLE;
	}
	E.at_barrier = 0;
	E.barriers++;
}

int source_lane(const thread *t, int lane)
{
	const int w = t->width, base = lane & ~(w - 1), in = lane & (w - 1);

	switch (t->op) {
	case EMU_SHFL: return base + (t->arg & (w - 1));
	case EMU_SHFL_UP: return in < t->arg ? lane : lane - t->arg;
	case EMU_SHFL_DOWN: return in + t->arg >= w ? lane : lane + t->arg;
	default: return ((in ^ t->arg) < w) ? base + (in ^ t->arg) : lane;
	}
}

float bf(uint32_t pair, int half) { return __bfloat162float({ (uint16_t)(half ? pair >> 16 : pair) }); }

/* PTX ISA, "Matrix Fragments for mma.m16n8k16 with floating point type": with g = lane / 4 and i = lane % 4, a lane has
 * of a: rows g and g + 8 (registers 0, 1), columns 2i and 2i + 1, and the same 8 columns on (registers 2, 3); of b: rows
 * 2i, 2i + 1 (register 0), and 8 on (1), column g; of c: rows g (0, 1) and g + 8 (2, 3), columns 2i and 2i + 1. */
void multiply(thread *warp)
{
	float a[16][16], b[16][8], c[16][8] = { { 0 } };

	for (int l = 0; l < 32; l++) {
		const emu_mma *m = (const emu_mma *)(uintptr_t)warp[l].value;
		const int g = l / 4, i = l % 4;

		for (int r = 0; r < 4; r++)
			for (int h = 0; h < 2; h++) a[g + 8 * (r & 1)][2 * i + h + 8 * (r >> 1)] = bf(m->a[r], h);
		for (int r = 0; r < 2; r++)
			for (int h = 0; h < 2; h++) b[2 * i + h + 8 * r][g] = bf(m->b[r], h);
	}
	for (int r = 0; r < 16; r++)
		for (int k = 0; k < 16; k++)
			for (int n = 0; n < 8; n++) c[r][n] += a[r][k] * b[k][n];
	for (int l = 0; l < 32; l++) {
		const emu_mma *m = (const emu_mma *)(uintptr_t)warp[l].value;
		const int g = l / 4, i = l % 4;

		for (int r = 0; r < 4; r++) m->c[r] += c[g + 8 * (r >> 1)][2 * i + (r & 1)];
	}
}

/* PTX ISA, "ldmatrix": lanes 8 j to 8 j + 7 point at the rows of tile j; lane l gets of each tile two neighbours of row l / 4, at
 * columns 2 (l % 4); transposed: of column l / 4. */
void load_tiles(thread *warp, bool transposed)
{
	uint16_t tile[4][8][8];

	for (int l = 0; l < 32; l++) {
		const void *p = ((const emu_ldmatrix *)(uintptr_t)warp[l].value)->p;

		if ((uintptr_t)p % 16) {
			fail("%s loads a row of a tile that is not on 16 bytes at %s:%d", who(warp + l).c_str(), warp[l].file, warp[l].line);
			return;
		}
		memcpy(tile[l / 8][l % 8], p, 16);
	}
	for (int l = 0; l < 32; l++)
		for (int j = 0; j < 4; j++) {
			const int at = l / 4, pair = 2 * (l % 4);
			const uint16_t lo = transposed ? tile[j][pair][at] : tile[j][at][pair],
				hi = transposed ? tile[j][pair + 1][at] : tile[j][at][pair + 1];

			((const emu_ldmatrix *)(uintptr_t)warp[l].value)->r[j] = lo | (uint32_t)hi << 16;
		}
}

/* Are all lanes that the mask names at the same operation? Then it happens. */
void settle_warp(thread *t)
{
	const int index = (int)(t - E.threads), lane0 = index & ~31;
	thread *warp = E.threads + lane0;
	uint64_t result[32];
	unsigned ballot = 0;
	bool all = true;

	if (!(t->mask >> (index & 31) & 1)) {
		fail("%s is not in its own mask %08x at %s:%d", who(t).c_str(), t->mask, t->file, t->line);
		return;
	}
	if (t->width < 1 || t->width > 32 || (t->width & (t->width - 1))) {
		if (t->op >= EMU_SHFL && t->op <= EMU_SHFL_XOR) {
			fail("%s shuffles with width %d at %s:%d", who(t).c_str(), t->width, t->file, t->line);
			return;
		}
	}
	if (lane0 + 32 > E.n && t->mask >> (E.n - lane0)) {
		fail("%s names lanes at %s (%s:%d) of which some do not exist: mask %08x", who(t).c_str(), name_of(t->op), t->file, t->line,
			t->mask);
		return;
	}
	if (++E.in_warp[index / 32] < __builtin_popcount(t->mask)) return;   /* others may yet come, or never: see the scheduler */
	for (int l = 0; l < 32; l++) {
		const thread *o = warp + l;

		if (!(t->mask >> l & 1)) continue;
		if (o->st != WAITING || o->op <= EMU_SYNCTHREADS_COUNT) return;
		if (o->mask != t->mask || !same_place(o, t)) {
			if (!(o->mask & (1u << (index & 31)))) {   /* it is busy with others */
				all = false;
				continue;
			}
			fail("%s is at %s (%s:%d, mask %08x), lane %d at %s (%s:%d, mask %08x)", who(t).c_str(), name_of(t->op), t->file,
				t->line, t->mask, l, name_of(o->op), o->file, o->line, o->mask);
			return;
		}
		ballot |= (unsigned)(o->value != 0) << l;
	}
	if (!all) return;
	for (int l = 0; l < 32; l++) {
		int from;

		if (!(t->mask >> l & 1)) continue;
		result[l] = ballot;
		if (t->op < EMU_SHFL || t->op > EMU_SHFL_XOR) continue;
		from = source_lane(warp + l, l);
		if (!(t->mask >> from & 1)) {
			fail("%s reads lane %d, which mask %08x does not name, at %s:%d", who(warp + l).c_str(), from, t->mask, t->file,
				t->line);
			return;
		}
		result[l] = warp[from].value;
	}
	if (t->op == EMU_MMA) multiply(warp);
	if (t->op == EMU_LDMATRIX) load_tiles(warp, t->arg != 0);
	if (E.failed) return;
	for (int l = 0; l < 32; l++)
		if (t->mask >> l & 1) {
			warp[l].synced += t->op == EMU_SYNCWARP;
			warp[l].value = result[l];
			warp[l].st = RUNNABLE;
		}
	E.in_warp[index / 32] -= __builtin_popcount(t->mask);
}

void settle(thread *t)
{
	if (t->op <= EMU_SYNCTHREADS_COUNT) settle_block(t);
	else settle_warp(t);
}

/* ---- launches ---- */

unsigned next(unsigned *r) { return *r = *r * 1664525u + 1013904223u; }

/* The order of turns of n blocks or threads. */
void shuffle(std::vector<int> &order, int n, unsigned *r)
{
	order.resize((size_t)n);
	for (int i = 0; i < n; i++) order[(size_t)i] = E.turns == EMU_REVERSE ? n - 1 - i : i;
	for (int i = n - 1; i > 0 && E.turns == EMU_RANDOM; i--) std::swap(order[(size_t)i], order[(next(r) >> 8) % (unsigned)(i + 1)]);
}

void stuck(void)
{
	const thread *waits = nullptr, *missing = nullptr;

	for (int i = 0; i < E.n; i++) {
		thread *t = &E.threads[i];

		if (t->st == WAITING && !waits) waits = t;
		if (t->st == ENDED || (waits && t->op != waits->op)) missing = missing ? missing : t;
	}
	if (!waits) return;
	if (missing)
		fail("%s waits at %s (%s:%d) for %s, which %s%s", who(waits).c_str(), name_of(waits->op), waits->file, waits->line,
			who(missing).c_str(), missing->st == ENDED ? "has ended" : "waits at ",
			missing->st == ENDED ? "" : name_of(missing->op));
	else
		fail("%s waits at %s (%s:%d) for threads that never come", who(waits).c_str(), name_of(waits->op), waits->file,
			waits->line);
}

void run_block(unsigned *r)
{
	memset(E.dynamic, 0xff, E.dynamic_bytes);   /* of float and bf16 a NaN, of int -1 */
	for (auto &s : E.statics) memset(s.second.first, 0xff, s.second.second);
	E.ended = E.at_barrier = 0;
	E.barriers = 0;
	memset(E.in_warp, 0, sizeof E.in_warp);
	shuffle(E.order, E.n, r);
	while (E.ended < E.n && !E.failed) {
		thread *t;

		E.from = E.turns == EMU_RANDOM ? (int)((next(r) >> 8) % (unsigned)E.n) : 0;
		E.turn = -1;
		if ((t = next_in_sweep())) go(nullptr, t);
		else stuck();
	}
}

bool edges_whole(char *p, size_t bytes)
{
	if (ASAN) return true;
	for (int i = 0; i < EDGE; i++)
		if ((uint8_t)p[-1 - i] != EDGE_BYTE || (uint8_t)p[bytes + (size_t)i] != EDGE_BYTE) return false;
	return true;
}

} // namespace

const emu_place *emu_here = nullptr;
emu_moment emu_now;

extern "C" void emu_blame(const char *why) { fail("%s", why); }

extern "C" bool emu_is_shared(const void *p)
{
	const char *at = (const char *)p;

	if (E.dynamic && at >= E.dynamic && at < E.dynamic + E.dynamic_bytes) return true;
	for (auto &s : E.statics)
		if (at >= s.second.first && at < s.second.first + s.second.second) return true;
	return false;
}

extern "C" uint64_t emu_wait(emu_op op, unsigned mask, uint64_t value, int arg, int width, const char *file, int line)
{
	thread *t = E.self;

	t->op = op;
	t->mask = mask;
	t->value = value;
	t->arg = arg;
	t->width = width;
	t->file = file;
	t->line = line;
	t->st = WAITING;
	settle(t);
	go(t, E.failed ? nullptr : next_in_sweep());
	return t->value;
}

extern "C" void *emu_dynamic_shared(void) { return E.dynamic; }

extern "C" void *emu_static_shared(const void *which, size_t bytes)
{
	auto &s = E.statics[which];

	if (!s.first) {
		s = { (char *)malloc(bytes), bytes };
		memset(s.first, 0xff, bytes);
	}
	return s.first;
}

extern "C" cudaError_t emu_func_attribute(const void *kernel, cudaFuncAttribute, int value)
{
	if (value > MAX_SHARED) return cudaErrorInvalidValue;
	E.attribute[kernel] = value;
	return cudaSuccess;
}

extern "C" int emu_launch(dim3 grid, dim3 block, size_t shared, const void *kernel, void (*run)(void *), void *arg)
{
	const uint64_t n = (uint64_t)block.x * block.y * block.z, blocks = (uint64_t)grid.x * grid.y * grid.z;
	const auto allowed = E.attribute.find(kernel);
	size_t total = shared;
	std::vector<int> block_order;
	unsigned r = E.seed;

	if (emu_asked("a launch")) return cudaErrorLaunchFailure;
	emu_now.launch = (uint32_t)++E.launches;
	E.blocks += (long)blocks;
	if (!n || n > MAX_THREADS || block.z > 64) fail("a block of %u x %u x %u threads", block.x, block.y, block.z);
	else if (!blocks || grid.x > 0x7fffffff || grid.y > 65535 || grid.z > 65535) fail("a grid of %u x %u x %u blocks", grid.x, grid.y, grid.z);
	else if (shared > (size_t)(allowed == E.attribute.end() ? (int)DEFAULT_SHARED : allowed->second))
		fail("%zu bytes of dynamic shared memory, more than the kernel may have", shared);
	if (E.failed) return cudaErrorLaunchFailure;
#if ASAN
	pthread_attr_t own;

	if (pthread_getattr_np(pthread_self(), &own) || pthread_attr_getstack(&own, &E.bottom, &E.size)) abort();
	pthread_attr_destroy(&own);
#endif
	E.n = (int)n;
	E.run = run;
	E.arg = arg;
	E.dynamic_bytes = shared;
	E.dynamic = (char *)malloc(shared ? shared : 1);
	shuffle(block_order, (int)blocks, &r);
	for (size_t b = 0; b < blocks && !E.failed; b++) {
		const unsigned at = (unsigned)block_order[b];

		emu_now.block = at;
		for (unsigned i = 0; i < n; i++) {
			thread *t = &E.threads[i];

			t->place = { dim3(i % block.x, i / block.x % block.y, i / block.x / block.y),
				dim3(at % grid.x, at / grid.x % grid.y, at / grid.x / grid.y), block, grid };
			if (!prepare(t)) {
				fail("no memory for the stacks of %d threads", E.n);
				break;
			}
		}
		if (!E.failed) run_block(&r);
	}
	for (auto &s : E.statics) total += s.second.second;
	if (!E.failed && total > MAX_SHARED) fail("%zu bytes of shared memory", total);
	if (!E.failed && total > DEFAULT_SHARED && (allowed == E.attribute.end() || total - shared > DEFAULT_SHARED))
		fail("%zu bytes of shared memory, %zu of them static, more than the kernel may have", total, total - shared);
	for (auto &s : E.statics) free(s.second.first);
	E.statics.clear();
	free(E.dynamic);
	E.dynamic = nullptr;
	for (auto &l : E.live)
		if (!E.failed && !edges_whole(l.first, l.second)) fail("a write beyond a buffer of %zu bytes", l.second);
	emu_here = nullptr;
	return E.failed ? cudaErrorLaunchFailure : cudaSuccess;
}

void *emu_alloc(size_t bytes)
{
	const size_t edge = ASAN ? 0 : EDGE;
	char *p = bytes > E.memory - E.used ? nullptr : (char *)malloc(bytes + 2 * edge + (ASAN && !bytes));   /* under the sanitizer its own red zones do better */

	if (!p) return nullptr;
	E.used += bytes;
	memset(p, EDGE_BYTE, edge);
	memset(p + edge, 0xff, bytes);
	memset(p + edge + bytes, EDGE_BYTE, edge);
	E.live[p + edge] = bytes;
	return p + edge;
}

void emu_free(void *q)
{
	char *p = (char *)q;
	auto at = E.live.find(p);

	if (!p) return;
	if (at == E.live.end()) abort();
	if (!edges_whole(p, at->second)) fail("a write beyond a buffer of %zu bytes", at->second);
	E.used -= at->second;
	E.live.erase(at);
	free(p - (ASAN ? 0 : EDGE));
}

void emu_memory(size_t bytes) { E.memory = bytes > E.used ? bytes : E.used; }

void emu_memory_left(size_t *left, size_t *total)
{
	*left = E.memory - E.used;
	*total = E.memory;
}

void emu_fail_at(long n) { E.fail_in = n; }

int emu_asked(const char *what)
{
	if (E.fail_in > 0 && --E.fail_in == 0) fail("%s that was to fail", what);
	return E.failed ? cudaErrorLaunchFailure : cudaSuccess;
}

void emu_order(emu_turns order, unsigned seed)
{
	E.turns = order;
	E.seed = seed;
}

const char *emu_error(void) { return E.failed ? E.error.c_str() : nullptr; }

void emu_reset(void)
{
	E.failed = false;
	E.fail_in = 0;
	E.error.clear();
}

long emu_launches(void) { return E.launches; }
long emu_blocks(void) { return E.blocks; }
