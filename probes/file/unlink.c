/* SPDX-License-Identifier: GPL-2.0-only */

#include "file/removed.h"

REMOVED(unlink, UNLINK, 0)
