/* A folder for what tests write, made before the group and removed after it. */
#ifndef KF_TESTS_SCRATCH_H
#define KF_TESTS_SCRATCH_H

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static char scratch[] = "/tmp/kf-test-XXXXXX";

static int make_scratch(void **state)
{
	(void)state;
	return mkdtemp(scratch) ? 0 : -1;
}

static int drop_scratch(void **state)
{
	char cmd[64];

	(void)state;
	snprintf(cmd, sizeof cmd, "rm -r %s", scratch);
	return system(cmd);
}

#endif
