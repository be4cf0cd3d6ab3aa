#include "common/store/mdb_walk.h"

#include <string.h>

/* Layout of an LMDB 0.9 file, from its documentation and lmdb.h's semantics:
 *
 *   page    u64 number, u16 pad, u16 flags, then u16 lower, u16 upper (or u32 pages, of an
 *           overflow page); on leaves and branches, u16 node offsets follow up to `lower`
 *   node    u16 lo, u16 hi, u16 flags, u16 key size, key, then (leaf) data; lo|hi<<16 is the data's size on a
 *           leaf, and with flags<<32 the child page on a branch
 *   meta    pages 0 and 1: at byte 16 u32 magic, u32 version, u64 address, u64 map size, two database
 *           records of 48 bytes (free list, main), u64 last page, u64 transaction
 */
enum {
	PAGE_HEADER = 16, NODE_HEADER = 8,
	P_BRANCH = 1, P_LEAF = 2, P_OVERFLOW = 4, P_META = 8, P_DIRTY = 16,
	F_BIGDATA = 1,
	MAX_DEPTH = 32
};
#define MAGIC 0xBEEFC0DEu
#define NO_PAGE UINT64_MAX

static uint16_t u16_at(const uint8_t *p) { uint16_t v; memcpy(&v, p, sizeof v); return v; }
static uint32_t u32_at(const uint8_t *p) { uint32_t v; memcpy(&v, p, sizeof v); return v; }
static uint64_t u64_at(const uint8_t *p) { uint64_t v; memcpy(&v, p, sizeof v); return v; }

struct walk {
	const uint8_t *data;
	size_t page_size;
	uint64_t pages, entries, seen, visited;
	kf_status (*fn)(void *arg, const kf_mdb_item *item, kf_err *err);
	void *arg;
	const uint8_t *last_key;
	size_t last_size;
};

struct meta {
	size_t page_size;
	uint64_t root, entries, last_page, txn;
	uint16_t flags, depth;
};

static kf_status read_meta(const uint8_t *page, struct meta *m, kf_err *err)
{
	const uint8_t *p = page + PAGE_HEADER, *free_db = p + 24, *main_db = p + 72;

	if (!(u16_at(page + 10) & P_META) || u32_at(p) != MAGIC)
		return kf_fail(err, KF_EDATA, "is not an LMDB file (no meta page)");
	if ((u32_at(p + 4) & 0x7fffffff) != 1)
		return kf_fail(err, KF_EUNSUPPORTED, "has LMDB data version %u, not 1", u32_at(p + 4) & 0x7fffffff);
	m->page_size = u32_at(free_db);
	m->flags = u16_at(main_db + 4);
	m->depth = u16_at(main_db + 6);
	m->entries = u64_at(main_db + 32);
	m->root = u64_at(main_db + 40);
	m->last_page = u64_at(p + 120);
	m->txn = u64_at(p + 128);
	if (m->page_size < 512 || m->page_size > 65536 || (m->page_size & (m->page_size - 1)))
		return kf_fail(err, KF_EDATA, "has a page size of %zu bytes, which cannot be", m->page_size);
	return KF_OK;
}

static kf_status leaf_item(struct walk *w, const uint8_t *page, const uint8_t *node, size_t room, kf_err *err)
{
	kf_mdb_item it;
	uint64_t size = u16_at(node) | (uint32_t)u16_at(node + 2) << 16;
	unsigned flags = u16_at(node + 4);
	int order;

	(void)page;
	it.key = node + NODE_HEADER;
	it.key_size = u16_at(node + 6);
	if (it.key_size == 0 || it.key_size > room - NODE_HEADER) return kf_fail(err, KF_EDATA, "has a key outside its page");
	it.value = it.key + it.key_size;
	it.value_size = (size_t)size;
	if (flags & ~(unsigned)F_BIGDATA) return kf_fail(err, KF_EDATA, "has a node of unknown flags %u", flags);
	if (flags & F_BIGDATA) {
		uint64_t at;

		if (room - NODE_HEADER - it.key_size < 8) return kf_fail(err, KF_EDATA, "has a value outside its page");
		at = u64_at(it.value);
		if (at < 2 || at >= w->pages || size > (w->pages - at) * w->page_size - PAGE_HEADER)
			return kf_fail(err, KF_EDATA, "has a value beyond its end");
		it.value = w->data + at * w->page_size;
		if (!(u16_at(it.value + 10) & P_OVERFLOW)) return kf_fail(err, KF_EDATA, "has a value on a page of another kind");
		it.value += PAGE_HEADER;
	} else if (size > room - NODE_HEADER - it.key_size) {
		return kf_fail(err, KF_EDATA, "has a value outside its page");
	}
	if (w->last_key) {
		size_t n = it.key_size < w->last_size ? it.key_size : w->last_size;

		order = memcmp(w->last_key, it.key, n);
		if (order > 0 || (order == 0 && w->last_size >= it.key_size))
			return kf_fail(err, KF_EDATA, "has keys out of order");
	}
	w->last_key = it.key;
	w->last_size = it.key_size;
	w->seen++;
	return w->fn(w->arg, &it, err);
}

/* Recursion is bounded by depth, and the whole walk by the number of pages: a page visited twice
 * would make a cycle, and keys that do not ascend. */
static kf_status walk_page(struct walk *w, uint64_t number, int depth, kf_err *err)
{
	const uint8_t *page;
	size_t lower, n;
	unsigned flags;
	kf_status rc = KF_OK;

	if (number < 2 || number >= w->pages || depth <= 0 || ++w->visited > w->pages)
		return kf_fail(err, KF_EDATA, "has a page out of place (%llu)", (unsigned long long)number);
	page = w->data + number * w->page_size;
	flags = u16_at(page + 10) & ~(unsigned)P_DIRTY;
	lower = u16_at(page + 12);
	if ((flags != P_BRANCH && flags != P_LEAF) || lower < PAGE_HEADER || lower > w->page_size || (lower & 1))
		return kf_fail(err, KF_EDATA, "has a broken page (%llu)", (unsigned long long)number);
	n = (lower - PAGE_HEADER) / 2;
	for (size_t i = 0; i < n && rc == KF_OK; i++) {
		size_t at = u16_at(page + PAGE_HEADER + 2 * i);
		const uint8_t *node = page + at;

		if (at < lower || at > w->page_size - NODE_HEADER || (at & 1))
			return kf_fail(err, KF_EDATA, "has a node outside its page (%llu)", (unsigned long long)number);
		if (flags == P_LEAF)
			rc = leaf_item(w, page, node, w->page_size - at, err);
		else
			rc = walk_page(w, u16_at(node) | (uint64_t)u16_at(node + 2) << 16 | (uint64_t)u16_at(node + 4) << 32,
				depth - 1, err);
	}
	return rc;
}

kf_status kf_mdb_walk(const uint8_t *data, size_t size,
	kf_status (*fn)(void *arg, const kf_mdb_item *item, kf_err *err), void *arg, kf_err *err)
{
	struct walk w = { .data = data, .fn = fn, .arg = arg };
	struct meta m = { 0 }, other = { 0 };
	kf_status rc;

	if (size < 1024) return kf_fail(err, KF_EDATA, "is too short to be an LMDB file (%zu bytes)", size);
	if ((rc = read_meta(data, &m, err)) != KF_OK) return rc;
	if (size % m.page_size || size / m.page_size < 2)
		return kf_fail(err, KF_EDATA, "is cut short: %zu bytes are no whole number of pages", size);
	if ((rc = read_meta(data + m.page_size, &other, err)) != KF_OK) return rc;
	if (other.page_size != m.page_size && other.txn) return kf_fail(err, KF_EDATA, "has meta pages that disagree");
	if (other.txn > m.txn) m = other;
	w.page_size = m.page_size;
	w.pages = size / m.page_size;
	if (m.last_page >= w.pages)
		return kf_fail(err, KF_EDATA, "is cut short: %llu pages of %llu", (unsigned long long)w.pages,
			(unsigned long long)m.last_page + 1);
	if (m.flags) return kf_fail(err, KF_EDATA, "has a database of unknown flags %u", m.flags);
	if (m.root == NO_PAGE) {
		if (m.entries) return kf_fail(err, KF_EDATA, "has entries and no pages");
		return KF_OK;
	}
	if (m.depth > MAX_DEPTH) return kf_fail(err, KF_EDATA, "is %u levels deep, which cannot be", m.depth);
	if ((rc = walk_page(&w, m.root, m.depth, err)) != KF_OK) return rc;
	if (w.seen != m.entries)
		return kf_fail(err, KF_EDATA, "has %llu entries and says %llu", (unsigned long long)w.seen,
			(unsigned long long)m.entries);
	return KF_OK;
}
