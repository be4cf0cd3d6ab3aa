/* What the machine has to give: memory. */
#ifndef KF_BASE_MACHINE_H
#define KF_BASE_MACHINE_H

#include <stdbool.h>
#include <stdint.h>

typedef struct {
	uint64_t total;        /* bytes of the machine, or of the control group if that allows less */
	uint64_t available;    /* bytes that can be had without swapping: free, or caches of files */
	bool limited;          /* a control group (a container, a batch system) allows less than the machine has */
} kf_memory;

/* From /proc/meminfo and the control groups, version 1 or 2, that this process is in. What cannot be found out counts
 * as no limit; where nothing can, available is 0. root: "", or the folder of a test's own tree of such files. */
kf_memory kf_memory_now(const char *root);

#endif
