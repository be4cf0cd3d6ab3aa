#include "import/names.h"

#include <stdlib.h>

static bool same(const uint8_t *a, size_t n, import_name b)
{
	return n == b.n && memcmp(a, b.s, n) == 0;
}

static uint32_t slot_of(const import_names *m, const void *p, size_t n)
{
	return (uint32_t)kf_hash64(p, n) & m->mask;
}

static void add(const import_names *m, int32_t *table, const uint8_t *p, size_t n, int32_t id, bool piece)
{
	uint32_t h = slot_of(m, p, n), len;

	for (; table[h] >= 0; h = (h + 1) & m->mask) {
		const char *s = kf_tokenizer_piece(m->t, table[h]);
		const uint8_t *b = kf_tokenizer_bytes(m->t, table[h], &len);

		if (piece ? strlen(s) == n && memcmp(s, p, n) == 0 : len == n && memcmp(b, p, n) == 0) return;
	}
	table[h] = id;
}

/* "<0x41>": the letter itself is more likely meant. */
static bool single_byte(const kf_tokenizer *t, int32_t id)
{
	return strncmp(kf_tokenizer_piece(t, id), "<0x", 3) == 0;
}

kf_status import_names_init(import_names *m, const kf_tokenizer *t, kf_err *err)
{
	int32_t v = kf_tokenizer_size(t);
	uint32_t n;

	m->t = t;
	for (m->mask = 1023; m->mask < 2 * (uint32_t)v; m->mask = 2 * m->mask + 1) {}
	m->by_bytes = kf_alloc((size_t)m->mask + 1, sizeof *m->by_bytes);
	m->by_piece = kf_alloc((size_t)m->mask + 1, sizeof *m->by_piece);
	if (!m->by_bytes || !m->by_piece) return kf_fail(err, KF_ENOMEM, "no memory for the names of %d tokens", (int)v);
	memset(m->by_bytes, 0xff, ((size_t)m->mask + 1) * sizeof *m->by_bytes);
	memset(m->by_piece, 0xff, ((size_t)m->mask + 1) * sizeof *m->by_piece);
	for (int bytes = 0; bytes < 2; bytes++) {
		for (int32_t id = 0; id < v; id++) {
			const uint8_t *b = kf_tokenizer_bytes(t, id, &n);

			if (n && !kf_tokenizer_is_control(t, id) && single_byte(t, id) == bytes) add(m, m->by_bytes, b, n, id, false);
		}
	}
	for (int32_t id = 0; id < v; id++) {
		const char *s = kf_tokenizer_piece(t, id);

		add(m, m->by_piece, (const uint8_t *)s, strlen(s), id, true);
	}
	return KF_OK;
}

void import_names_release(import_names *m)
{
	kf_free(m->by_bytes);
	kf_free(m->by_piece);
}

static bool begins(import_name name, const char *with)
{
	size_t n = strlen(with);

	return name.n > n && memcmp(name.s, with, n) == 0;
}

/* "token_id:17"; -1: no such name */
static int32_t numbered(import_name name)
{
	char digits[12];
	size_t n = name.n - 9;

	if (!begins(name, "token_id:") || n > 10 || strspn(name.s + 9, "0123456789") < n) return -1;
	memcpy(digits, name.s + 9, n);
	digits[n] = 0;
	long long id = strtoll(digits, NULL, 10);
	return id <= INT32_MAX ? (int32_t)id : -1;
}

/* "bytes:\xe2\x80" as bytes, at most 64; false: no such name */
static bool escaped(import_name name, uint8_t out[64], size_t *n)
{
	size_t i = 6;

	*n = 0;
	if (!begins(name, "bytes:")) return false;
	while (i < name.n && *n < 64) {
		if (i + 4 <= name.n && name.s[i] == '\\' && name.s[i + 1] == 'x') {
			char hex[3] = { name.s[i + 2], name.s[i + 3], 0 }, *end;

			out[(*n)++] = (uint8_t)strtoul(hex, &end, 16);
			if (*end) return false;
			i += 4;
		} else {
			out[(*n)++] = (uint8_t)name.s[i++];
		}
	}
	return i == name.n;
}

static int32_t by_bytes(const import_names *m, const void *p, size_t n)
{
	uint32_t len;

	for (uint32_t h = slot_of(m, p, n); m->by_bytes[h] >= 0; h = (h + 1) & m->mask) {
		const uint8_t *b = kf_tokenizer_bytes(m->t, m->by_bytes[h], &len);

		if (len == n && memcmp(b, p, n) == 0) return m->by_bytes[h];
	}
	return -1;
}

int32_t import_names_find(const import_names *m, import_name name)
{
	uint8_t raw[64];
	size_t n;
	int32_t id = numbered(name);

	if (id >= 0) return id;
	if (escaped(name, raw, &n)) return by_bytes(m, raw, n);
	if ((id = by_bytes(m, name.s, name.n)) >= 0) return id;
	for (uint32_t h = slot_of(m, name.s, name.n); m->by_piece[h] >= 0; h = (h + 1) & m->mask) {
		const char *s = kf_tokenizer_piece(m->t, m->by_piece[h]);

		if (same((const uint8_t *)s, strlen(s), name)) return m->by_piece[h];
	}
	return -1;
}

bool import_name_is_half(import_name name) { return memmem(name.s, name.n, "\xef\xbf\xbd", 3) != NULL; }

bool import_name_fits(const import_names *m, import_name name, int32_t id)
{
	uint8_t raw[64];
	size_t len;
	uint32_t n;
	int32_t number = numbered(name);
	const uint8_t *b = kf_tokenizer_bytes(m->t, id, &n);
	const char *piece = kf_tokenizer_piece(m->t, id);

	if (number >= 0) return number == id;
	if (escaped(name, raw, &len)) return n == len && memcmp(b, raw, n) == 0;
	if (same(b, n, name) || same((const uint8_t *)piece, strlen(piece), name)) return true;
	return n > 0 && import_name_is_half(name);
}
