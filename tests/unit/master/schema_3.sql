BEGIN TRANSACTION;
CREATE TABLE blocks (
	block BIGINT NOT NULL, 
	file BIGINT, 
	position BIGINT, 
	generation BIGINT, 
	length BIGINT, 
	tried BIGINT, 
	PRIMARY KEY (block)
);
INSERT INTO "blocks" VALUES(1,3,0,1,7,1);
CREATE TABLE failures (
	job TEXT NOT NULL, 
	step BIGINT NOT NULL, 
	kind TEXT NOT NULL, 
	task_index BIGINT NOT NULL, 
	attempt_number BIGINT NOT NULL, 
	worker TEXT, 
	error BLOB, 
	PRIMARY KEY (job, step, kind, task_index, attempt_number)
);
CREATE TABLE history (
	job TEXT NOT NULL, 
	place BIGINT NOT NULL, 
	attempts BIGINT, 
	total BIGINT, 
	data BLOB, 
	PRIMARY KEY (job, place)
);
CREATE TABLE inodes (
	inode BIGINT NOT NULL, 
	parent BIGINT, 
	name TEXT, 
	kind TEXT, 
	modified_at DOUBLE, 
	length BIGINT, 
	block_size_bytes BIGINT, 
	replication BIGINT, 
	owner TEXT, 
	mode BIGINT, 
	packed_in BIGINT, 
	packed_at BIGINT, 
	PRIMARY KEY (inode)
);
INSERT INTO "inodes" VALUES(2,1,'books','directory',12.5,0,0,0,'ada',493,0,0);
INSERT INTO "inodes" VALUES(3,2,'é.txt','file',13.0,7,64,3,'ada',420,0,0);
CREATE TABLE jobs (
	job TEXT NOT NULL, 
	submit_key TEXT, 
	state TEXT, 
	submitted_at DOUBLE, 
	spec BLOB, 
	finished BLOB, 
	PRIMARY KEY (job)
);
CREATE TABLE open_files (
	file BIGINT NOT NULL, 
	path TEXT, 
	lease TEXT, 
	file_key TEXT, 
	overwrite BIGINT, 
	block_size_bytes BIGINT, 
	replication BIGINT, 
	owner TEXT, 
	is_append BIGINT, 
	PRIMARY KEY (file)
);
CREATE TABLE printed (
	job TEXT NOT NULL, 
	step BIGINT NOT NULL, 
	kind TEXT NOT NULL, 
	task_index BIGINT NOT NULL, 
	attempt_number BIGINT NOT NULL, 
	stream TEXT NOT NULL, 
	place BIGINT NOT NULL, 
	sequence BIGINT, 
	worker TEXT, 
	bytes BIGINT, 
	"offset" BIGINT, 
	is_of_failure BIGINT, 
	data BLOB, 
	PRIMARY KEY (job, step, kind, task_index, attempt_number, stream, place)
);
CREATE TABLE progress (
	job TEXT NOT NULL, 
	elapsed_s DOUBLE, 
	counted BLOB, 
	PRIMARY KEY (job)
);
CREATE TABLE settings (
	name TEXT NOT NULL, 
	value TEXT, 
	PRIMARY KEY (name)
);
INSERT INTO "settings" VALUES('schema','3');
INSERT INTO "settings" VALUES('cluster_id','f65882');
INSERT INTO "settings" VALUES('epoch','1');
INSERT INTO "settings" VALUES('jobs_seen','2');
INSERT INTO "settings" VALUES('inodes_reserved','1002');
INSERT INTO "settings" VALUES('committed','1 41');
CREATE TABLE skipped (
	job TEXT NOT NULL, 
	step BIGINT NOT NULL, 
	kind TEXT NOT NULL, 
	task_index BIGINT NOT NULL, 
	position BIGINT NOT NULL, 
	attempt_number BIGINT, 
	worker TEXT, 
	record BLOB, 
	PRIMARY KEY (job, step, kind, task_index, position)
);
CREATE TABLE winners (
	job TEXT NOT NULL, 
	step BIGINT NOT NULL, 
	kind TEXT NOT NULL, 
	task_index BIGINT NOT NULL, 
	attempt_number BIGINT, 
	worker TEXT, 
	output BLOB, 
	counters BLOB, 
	PRIMARY KEY (job, step, kind, task_index)
);
INSERT INTO "winners" VALUES('job-00000a-1',0,'map',0,0,'w1',X'82A0AA5461736B4F7574707574A6646967657374C40100',X'9193A167A16E01');
CREATE TABLE workers (
	worker TEXT NOT NULL, 
	incarnation BIGINT, 
	PRIMARY KEY (worker)
);
INSERT INTO "workers" VALUES('worker-1',3);
COMMIT;
