// SPDX-License-Identifier: GPL-2.0-only
/*
 * kzalloc_obj() and family: allocations that know the type; GFP_KERNEL when nothing is said.
 *
 * Since:  7.0, 2932ba8d9c99 ("slab: Introduce kmalloc_obj() and family")
 * Names:  kmalloc_obj kmalloc_objs kzalloc_obj kzalloc_objs kzalloc_flex
 * Delete: when the oldest supported kernel is 7.0 or newer
 */
#include <linux/slab.h>

struct probe {
	size_t count;
	int member[];
};

static inline void probe(void)
{
	struct probe *one = kzalloc_obj(*one), *flex = kzalloc_flex(*flex, member, 3, GFP_ATOMIC);
	struct probe *two = kmalloc_obj(*two, GFP_ATOMIC);
	int *many = kzalloc_objs(*many, 3), *more = kmalloc_objs(*more, 3, GFP_ATOMIC);

	kfree(one);
	kfree(flex);
	kfree(two);
	kfree(many);
	kfree(more);
}
