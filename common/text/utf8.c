/* UTF-8, and the characters that byte-level BPE vocabularies write for bytes. */
#include "common/text/internal.h"

unsigned kf_utf8_put(uint8_t out[4], uint32_t c)
{
	if (c < 0x80) {
		out[0] = (uint8_t)c;
		return 1;
	}
	if (c < 0x800) {
		out[0] = (uint8_t)(0xc0 | c >> 6);
		out[1] = (uint8_t)(0x80 | (c & 0x3f));
		return 2;
	}
	if (c < 0x10000) {
		out[0] = (uint8_t)(0xe0 | c >> 12);
		out[1] = (uint8_t)(0x80 | (c >> 6 & 0x3f));
		out[2] = (uint8_t)(0x80 | (c & 0x3f));
		return 3;
	}
	out[0] = (uint8_t)(0xf0 | c >> 18);
	out[1] = (uint8_t)(0x80 | (c >> 12 & 0x3f));
	out[2] = (uint8_t)(0x80 | (c >> 6 & 0x3f));
	out[3] = (uint8_t)(0x80 | (c & 0x3f));
	return 4;
}

size_t kf_utf8_valid(const uint8_t *p, size_t n)
{
	size_t i = 0;
	while (i < n) {
		uint64_t w;
		if (n - i >= 8 && (memcpy(&w, p + i, 8), (w & 0x8080808080808080u) == 0)) {
			i += 8;
			continue;
		}
		unsigned l = kf_utf8_len(p + i, n - i);
		if (l == 0)
			break;
		i += l;
	}
	return i;
}

/* Printable Latin-1 characters stand for themselves; the 68 other bytes, in order, for U+0100 and on. */
static bool plain(unsigned b)
{
	return (b >= 0x21 && b <= 0x7e) || (b >= 0xa1 && b <= 0xac) || b >= 0xae;
}

/* The other bytes: 0x00-0x20, 0x7f-0xa0, 0xad. */
uint32_t kf_byte_char(uint8_t b)
{
	if (plain(b))
		return b;
	if (b <= 0x20)
		return 0x100u + b;
	if (b == 0xad)
		return 0x100u + 67;
	return 0x100u + 33 + (b - 0x7fu);
}

int kf_char_byte(uint32_t c)
{
	if (c < 0x100)
		return plain(c) ? (int)c : -1;
	c -= 0x100;
	if (c <= 0x20)
		return (int)c;
	if (c < 67)
		return (int)(0x7f + c - 33);
	return c == 67 ? 0xad : -1;
}
