#include "common/base/status.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

kf_status kf_fail(kf_err *err, kf_status code, const char *fmt, ...)
{
	va_list ap;

	if (!err) return code;
	err->code = code;
	va_start(ap, fmt);
	vsnprintf(err->text, sizeof err->text, fmt, ap);
	va_end(ap);
	return code;
}

kf_status kf_fail_errno(kf_err *err, const char *fmt, ...)
{
	int e = errno;
	kf_status code = e == ENOMEM ? KF_ENOMEM : e == ENOENT ? KF_ENOTFOUND : KF_EIO;
	va_list ap;
	int n;

	if (!err) return code;
	err->code = code;
	va_start(ap, fmt);
	n = vsnprintf(err->text, sizeof err->text, fmt, ap);
	va_end(ap);
	if (n >= 0 && n < (int)sizeof err->text)
		snprintf(err->text + n, sizeof err->text - (size_t)n, ": %s", strerror(e));
	return code;
}

kf_status kf_context(kf_err *err, kf_status rc, const char *fmt, ...)
{
	char text[sizeof err->text];
	va_list ap;
	int n;

	if (rc == KF_OK || rc == KF_END || !err) return rc;
	memcpy(text, err->text, sizeof text);
	va_start(ap, fmt);
	n = vsnprintf(err->text, sizeof err->text, fmt, ap);
	va_end(ap);
	if (n >= 0 && n < (int)sizeof err->text)
		snprintf(err->text + n, sizeof err->text - (size_t)n, ": %.1000s", text); /* what does not fit is cut */
	return rc;
}

const char *kf_status_name(kf_status code)
{
	switch (code) {
	case KF_OK: return "no error";
	case KF_EINVAL: return "invalid argument";
	case KF_EUSAGE: return "wrong usage";
	case KF_ENOMEM: return "out of memory";
	case KF_EIO: return "input/output error";
	case KF_EBUSY: return "being written by another process";
	case KF_EDATA: return "damaged data";
	case KF_EMISMATCH: return "mismatch";
	case KF_EUNSUPPORTED: return "not supported";
	case KF_ESTOPPED: return "stopped";
	case KF_ENOTFOUND: return "not found";
	case KF_EELSEWHERE: return "failed in another process";
	case KF_END: return "end";
	}
	return "unknown status";
}
