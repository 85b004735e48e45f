"""One self-contained page with all results of the experiment that lies in the working folder: `make report`."""
