"""The vector stage in integers: what a vector command computes, and when it is done."""
