/* Races of kernels, found by what every thread reads and writes. The kernels' sources are compiled with -fsanitize=thread, which calls a
 * function at each access to memory; those functions are here instead of in the sanitizer's library, which knows nothing of blocks and warps.
 *
 * For every byte is kept who wrote it last and which two threads read it last, and when. Two accesses of different threads, one of them a
 * write, are in order when between them was a __syncthreads of their block, or, of lanes of a warp, a __syncwarp; nothing else orders memory:
 * no shuffle, vote or product of a warp. Between blocks there is no order. Atomics are in order with each other. It does not matter in which
 * order the emulator ran the threads, so that a race is found also where its result was right. */
#include <dlfcn.h>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <unordered_map>

#define EMU_RACES
#include "tests/emu/emu.h"
#include "tests/emu/include/cuda_runtime.h"

namespace {

enum { PAGE = 4096, MOST_PAGES = 2000 };
enum kind { READ, WRITE, ATOMIC };

struct access { uint32_t block, thread, barrier, warp; };   /* thread: 1 more, 0: none */
struct cell { uint32_t launch; bool atomic; access wrote, read[2]; };

struct freed { void operator()(cell *c) const { free(c); } };
std::unordered_map<uintptr_t, std::unique_ptr<cell[], freed>> pages;
uintptr_t last_page;
cell *last;
uint32_t launch;

cell *cells_of(uintptr_t page)
{
	if (last && page == last_page) return last;
	auto &p = pages[page];
	if (!p) p.reset((cell *)calloc(PAGE, sizeof(cell)));
	if (!p) abort();
	last_page = page;
	return last = p.get();
}

bool same(const access &a, const access &b) { return a.block == b.block && a.thread == b.thread; }

/* Whether b, which happens now, may have happened at the same time as a. */
bool unordered(const access &a, const access &b, const void *p)
{
	if (!a.thread || same(a, b)) return false;
	if (a.block != b.block) return !emu_is_shared(p);
	if (a.barrier != b.barrier) return false;
	return (a.thread - 1) / 32 != (b.thread - 1) / 32 || a.warp == b.warp;
}

void blame(const access &a, const access &b, bool wrote, kind k, const void *p, const void *where)
{
	char text[400];
	Dl_info in = {};

	dladdr(where, &in);
	snprintf(text, sizeof text, "race: thread %u of block %u %s %s memory at %p that thread %u of block %u %s, with no barrier between: addr2line -e %s %#zx",
		b.thread - 1, b.block, k == READ ? "reads" : "writes", emu_is_shared(p) ? "shared" : "global", p, a.thread - 1, a.block,
		wrote ? "wrote" : "read", in.dli_fname ? in.dli_fname : "", (size_t)((const char *)where - (const char *)in.dli_fbase) - 1);
	emu_blame(text);
}

void touch(const void *p, size_t n, kind k, const void *where)
{
	const emu_moment &m = emu_now;
	const access now = { m.block, m.thread + 1, m.barrier, m.warp };

	if (!emu_here || ((const char *)p >= m.stack && (const char *)p < m.stack_end)) return;
	if (m.launch != launch) {
		launch = m.launch;
		if (pages.size() > MOST_PAGES) {
			pages.clear();
			last = nullptr;
		}
	}
	for (uintptr_t at = (uintptr_t)p; at < (uintptr_t)p + n; at++) {
		cell *c = cells_of(at / PAGE) + at % PAGE;

		if (c->launch != launch) *c = cell{ launch, false, {}, {} };
		if (!(k == ATOMIC && c->atomic) && unordered(c->wrote, now, p)) return blame(c->wrote, now, true, k, p, where);
		if (k != READ)
			for (int i = 0; i < 2; i++)
				if (unordered(c->read[i], now, p)) return blame(c->read[i], now, false, k, p, where);
		if (k == READ) {
			if (c->read[0].thread && !same(c->read[0], now)) c->read[1] = c->read[0];
			c->read[0] = now;
		} else {
			c->wrote = now;
			c->atomic = k == ATOMIC;
		}
	}
}

} // namespace

#define HERE __builtin_return_address(0)
#define ACCESS(n) \
	extern "C" void __tsan_read##n(void *p) { touch(p, n, READ, HERE); } \
	extern "C" void __tsan_write##n(void *p) { touch(p, n, WRITE, HERE); } \
	extern "C" void __tsan_unaligned_read##n(void *p) { touch(p, n, READ, HERE); } \
	extern "C" void __tsan_unaligned_write##n(void *p) { touch(p, n, WRITE, HERE); } \
	extern "C" void __tsan_volatile_read##n(void *p) { touch(p, n, READ, HERE); } \
	extern "C" void __tsan_volatile_write##n(void *p) { touch(p, n, WRITE, HERE); }
ACCESS(1)
ACCESS(2)
ACCESS(4)
ACCESS(8)
ACCESS(16)
extern "C" void __tsan_read_range(void *p, size_t n) { touch(p, n, READ, HERE); }
extern "C" void __tsan_write_range(void *p, size_t n) { touch(p, n, WRITE, HERE); }
extern "C" void __tsan_init(void) {}
extern "C" void __tsan_func_entry(void *) {}
extern "C" void __tsan_func_exit(void) {}
extern "C" void __tsan_vptr_update(void **, void *) {}

extern "C" void emu_atomic(void *p, size_t n) { touch(p, n, ATOMIC, HERE); }
extern "C" void emu_tile_read(const void *p, size_t n) { touch(p, n, READ, HERE); }
