/* Status codes and error text: the one error idiom of kfuse.
 *
 * A function that can fail returns kf_status; its results leave through
 * out-parameters; the message goes to a caller's kf_err and is complete enough
 * to print as it stands: what failed, on which file and record, why, and what
 * to do about it where that is not obvious. Libraries neither print nor exit.
 *
 *     if ((rc = kf_map_open(&map, path, err)) != KF_OK) goto out;
 */
#ifndef KF_BASE_STATUS_H
#define KF_BASE_STATUS_H

typedef enum {
	KF_OK = 0,
	KF_EINVAL,      /* the caller's or user's argument is wrong */
	KF_EUSAGE,      /* a program was called wrongly: exit status 2 */
	KF_ENOMEM,      /* out of memory */
	KF_EIO,         /* the system refused: open, read, write, rename, full disk */
	KF_EBUSY,       /* another process is writing it */
	KF_EDATA,       /* bytes read from outside are damaged or not what they say */
	KF_EMISMATCH,   /* two good things do not belong together */
	KF_EUNSUPPORTED,/* understood, but not something kfuse does */
	KF_ENOTFOUND,   /* a name, file or record that is not there */
	KF_ESTOPPED,    /* asked to end (stop.h); what was finished is kept */
	KF_EELSEWHERE,  /* it failed in another process of the run, which says so (ranks.h) */
	KF_END          /* not an error: nothing more to read */
} kf_status;

#define KF_MUST_CHECK __attribute__((warn_unused_result))
#define KF_PRINTF(fmt, args) __attribute__((format(printf, fmt, args)))

typedef struct {
	kf_status code;
	char text[1024];
} kf_err;

/* Set err (may be NULL) to code and the formatted text; returns code. */
kf_status kf_fail(kf_err *err, kf_status code, const char *fmt, ...) KF_PRINTF(3, 4);

/* As kf_fail with KF_EIO (KF_ENOMEM for ENOMEM), appending ": " and strerror(errno). */
kf_status kf_fail_errno(kf_err *err, const char *fmt, ...) KF_PRINTF(2, 3);

/* Put "<formatted>: " in front of err's text; returns rc unchanged. KF_OK and
 * KF_END pass through untouched, so a call can be wrapped whole. */
kf_status kf_context(kf_err *err, kf_status rc, const char *fmt, ...) KF_PRINTF(3, 4);

/* A word for a code: "invalid argument", "damaged data", ... */
const char *kf_status_name(kf_status code);

#endif
