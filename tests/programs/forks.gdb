# SPDX-License-Identifier: GPL-2.0
# In the child; then in the parent, where it was left at the fork; then in both, at their ends.
set pagination off
set confirm off
set follow-fork-mode child
set detach-on-fork off
break child_is_here
break parent_is_here
run
print block[0] == 'c' && block[2621439] == 'c' && block[2621440] == 'p' && block[5242879] == 'p'
set var block[5242879] = 'd'
print/c *block@4
inferior 1
print block[0] == 'p' && block[2621440] == 'p' && block[5242879] == 'p'
find /b1 block, block + 5242879, 'c'
print $numfound
print/c *(block + 5242876)@4
continue
print block[0] == 'p' && block[2621440] == 'q' && block[5242879] == 'q'
inferior 2
print block[0] == 'c' && block[5242879] == 'd'
continue
print $_exitcode
inferior 1
continue
print $_exitcode
