#include "common/base/table.h"

#include <limits.h>
#include <string.h>
#include <sys/ioctl.h>
#include <utf8proc.h>

/* The character at s: its bytes and columns. */
static size_t next(const char *s, int *columns)
{
	utf8proc_int32_t c;
	/* a character has four bytes at most; none goes beyond the NUL, which continues none */
	const utf8proc_ssize_t n = utf8proc_iterate((const utf8proc_uint8_t *)s, (utf8proc_ssize_t)strnlen(s, 4), &c);

	*columns = n > 0 ? utf8proc_charwidth(c) : 1;
	return n > 0 ? (size_t)n : 1;
}

int kf_text_width(const char *s)
{
	int width = 0, w;

	while (*s && width < INT_MAX - 2) {
		s += next(s, &w);
		width += w;
	}
	return width;
}

int kf_text_field(const char *s, int columns)
{
	const int missing = columns - kf_text_width(s);

	return missing > 0 ? (int)strlen(s) + missing : 0;
}

size_t kf_text_fit(const char *s, int columns)
{
	size_t at = 0;
	int width = 0, w;

	while (s[at]) {
		const size_t n = next(s + at, &w);

		if (width + w > columns) break;
		width += w;
		at += n;
	}
	return at;
}

size_t kf_text_cut(const char *s, size_t most)
{
	const size_t n = strnlen(s, most + 1);

	if (n <= most) return n;
	while (most > 0 && ((unsigned char)s[most] & 0xc0) == 0x80) most--;
	return most;
}

int kf_terminal_columns(int fd)
{
	struct winsize w;

	return ioctl(fd, TIOCGWINSZ, &w) == 0 ? w.ws_col : 0;
}

void kf_text_widen(int *columns, const char *s)
{
	const int width = kf_text_width(s);

	if (width > *columns) *columns = width;
}

const char *kf_domain_label(const char *domain)
{
	return *domain ? domain : "(no domain)";
}
