"""Looks at the repository for what stops a run or spoils it, and names the mend: `make doctor`."""
