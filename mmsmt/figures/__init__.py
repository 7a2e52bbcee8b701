"""Draw the paper's figures of what SMT computes."""
