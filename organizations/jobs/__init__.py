"""Work that outlives the process that asked for it: durable jobs, in the master database."""
