#include "common/base/listing.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

void kf_listing_add(kf_listing *l, const char *fmt, ...)
{
	char text[512];
	va_list ap;

	if (l->n++ >= KF_LISTED) return;
	va_start(ap, fmt);
	vsnprintf(text, sizeof text, fmt, ap);
	va_end(ap);
	if (l->text.len) kf_buf_put(&l->text, ", ", 2);
	kf_buf_put(&l->text, text, strlen(text));
}

void kf_listing_put(const kf_listing *l, kf_buf *out, const char *what, const char *thing)
{
	char head[160], more[48];

	if (!l->n) return;
	snprintf(head, sizeof head, "%s%s %s%s ", out->len ? "; " : "", what, thing, l->n > 1 ? "s" : "");
	kf_buf_put(out, head, strlen(head));
	kf_buf_put(out, l->text.data, l->text.len);
	if (l->text.failed) out->failed = true;
	if (l->n <= KF_LISTED) return;
	snprintf(more, sizeof more, " and %d more", l->n - KF_LISTED);
	kf_buf_put(out, more, strlen(more));
}

void kf_listing_release(kf_listing *l) { kf_buf_release(&l->text); }
