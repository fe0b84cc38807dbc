PRAGMA foreign_keys=OFF;
BEGIN TRANSACTION;
CREATE TABLE _sqlx_migrations (
    version BIGINT PRIMARY KEY,
    description TEXT NOT NULL,
    installed_on TIMESTAMP NOT NULL DEFAULT CURRENT_TIMESTAMP,
    success BOOLEAN NOT NULL,
    checksum BLOB NOT NULL,
    execution_time BIGINT NOT NULL
);
INSERT INTO _sqlx_migrations VALUES(1,'begin','2026-11-24 10:54:27',1,X'69e7adb3087cdb61220bcc6924efabffd7f3c260d227551f54b5e4f34b26558a108e1365fcde5d0bddc4da3ac3df6a06',626875);
CREATE TABLE operation (
    id TEXT PRIMARY KEY,
    sequence BIGINT NOT NULL UNIQUE,
    kind TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    position BIGINT NOT NULL,
    is_open BIGINT NOT NULL,
    finished BIGINT NOT NULL,
    complete BIGINT NOT NULL,
    deployment TEXT,
    target TEXT,
    proves BIGINT NOT NULL,
    lost BIGINT NOT NULL,
    deleted_at BIGINT,
    deletion BIGINT,
    head TEXT NOT NULL
);
INSERT INTO operation VALUES('018bcfe5-6800-704d-bfbd-0175d68077c2',1,'checkpoint',1700000000000,10,0,1,1,'release-2',NULL,0,0,NULL,NULL,'{"checkpoint":{"request":{"kind":"manual","selector":{},"components":[],"deployment":"release-2","labels":{},"reason":"before release 2","requester":"operator/alice","timeout":300000},"phase":{"finished":{"outcome":"COMPLETE","skew":0,"at":1700000000000}},"hosts":2}}');
INSERT INTO operation VALUES('018bcfe5-6800-704d-bfbd-0176de4bffef',2,'rollback',1700000000000,13,0,1,0,NULL,'018bcfe5-6800-704d-bfbd-0175d68077c2',1,0,NULL,NULL,'{"rollback":{"request":{"source":{"checkpoint":"018bcfe5-6800-704d-bfbd-0175d68077c2"},"selector":{},"selection":{},"strategy":{"gradual":{"canary":{"amount":{"count":1}},"sizes":[{"count":2}],"order":[]}},"policy":{"gate":{"min_healthy_time":3000,"healthy_deadline":10000,"max_failed":0,"ignore_health":false},"on_failure":"pause","on_unreachable":"fail","budgets":[],"max_rollback_time":30000,"report_grace":5000,"unreachable_after":5000,"max_duration":86400000},"reason":"release 2 is bad","requester":"operator/alice"},"phase":{"finished":{"outcome":"SUCCEEDED","cause":null,"at":1700000006000}},"hosts":2}}');
INSERT INTO operation VALUES('018bcfe5-b620-75d5-8c4e-5e1b641d401c',3,'checkpoint',1700000020000,10,0,1,1,NULL,NULL,0,0,1700000020000,1,'{"checkpoint":{"request":{"kind":"manual","selector":{},"components":[],"labels":{},"reason":"before release 2","requester":"operator/alice","timeout":300000},"phase":{"finished":{"outcome":"COMPLETE","skew":0,"at":1700000020000}},"hosts":2}}');
INSERT INTO operation VALUES('018bcfe5-b620-75d5-8c4e-5e1c9d1a10ba',4,'rollback',1700000020000,5,1,0,0,NULL,NULL,0,0,NULL,NULL,'{"rollback":{"request":{"source":{"undo":"018bcfe5-6800-704d-bfbd-0176de4bffef"},"selector":{"hosts":["b"]},"selection":{},"strategy":{"gradual":{"canary":{"amount":{"count":1}},"sizes":[{"count":2}],"order":[]}},"policy":{"gate":{"min_healthy_time":3000,"healthy_deadline":10000,"max_failed":0,"ignore_health":false},"on_failure":"pause","on_unreachable":"fail","budgets":[],"max_rollback_time":30000,"report_grace":5000,"unreachable_after":5000,"max_duration":86400000},"reason":"release 2 is bad","requester":"operator/alice"},"phase":{"running":{"direction":"forward"}},"hosts":1}}');
CREATE TABLE event (
    operation TEXT NOT NULL REFERENCES operation (id),
    position BIGINT NOT NULL,
    body TEXT NOT NULL,
    PRIMARY KEY (operation, position)
);
INSERT INTO event VALUES('018bcfe5-6800-704d-bfbd-0175d68077c2',0,'{"version":1,"checkpoint":{"event":"created","at":1700000000000,"created":{"id":"018bcfe5-6800-704d-bfbd-0175d68077c2","request":{"kind":"manual","selector":{},"components":[],"deployment":"release-2","labels":{},"reason":"before release 2","requester":"operator/alice","timeout":300000},"hosts":{"a":{"generation":1,"presence":{"connected":true,"health":"good","since":1700000000000,"evidence":"http: good"}},"b":{"generation":1,"presence":{"connected":true,"health":"good","since":1700000000000,"evidence":"http: good"}}}}}}');
INSERT INTO event VALUES('018bcfe5-6800-704d-bfbd-0175d68077c2',1,'{"version":1,"checkpoint":{"event":"host_reported","at":1700000000000,"host":"a","step":"prepare","answer":"prepared"}}');
INSERT INTO event VALUES('018bcfe5-6800-704d-bfbd-0175d68077c2',2,'{"version":1,"checkpoint":{"event":"host_reported","at":1700000000000,"host":"b","step":"prepare","answer":"prepared"}}');
INSERT INTO event VALUES('018bcfe5-6800-704d-bfbd-0175d68077c2',3,'{"version":1,"checkpoint":{"event":"cut_started","at":1700000000000}}');
INSERT INTO event VALUES('018bcfe5-6800-704d-bfbd-0175d68077c2',4,'{"version":1,"checkpoint":{"event":"host_reported","at":1700000000000,"host":"a","step":"cut","answer":{"captured":{"snapshot":"0101010101010101010101010101010101010101010101010101010101010101","cut_at":1700000000000,"bytes":10,"new_bytes":1,"entries":1}}}}');
INSERT INTO event VALUES('018bcfe5-6800-704d-bfbd-0175d68077c2',5,'{"version":1,"checkpoint":{"event":"host_reported","at":1700000000000,"host":"b","step":"cut","answer":{"captured":{"snapshot":"0101010101010101010101010101010101010101010101010101010101010101","cut_at":1700000000000,"bytes":10,"new_bytes":1,"entries":1}}}}');
INSERT INTO event VALUES('018bcfe5-6800-704d-bfbd-0175d68077c2',6,'{"version":1,"checkpoint":{"event":"finish_started","at":1700000000000,"deadline":1700000030000}}');
INSERT INTO event VALUES('018bcfe5-6800-704d-bfbd-0175d68077c2',7,'{"version":1,"checkpoint":{"event":"host_reported","at":1700000000000,"host":"a","step":"finish","answer":"finished"}}');
INSERT INTO event VALUES('018bcfe5-6800-704d-bfbd-0175d68077c2',8,'{"version":1,"checkpoint":{"event":"host_reported","at":1700000000000,"host":"b","step":"finish","answer":"finished"}}');
INSERT INTO event VALUES('018bcfe5-6800-704d-bfbd-0175d68077c2',9,'{"version":1,"checkpoint":{"event":"finished","at":1700000000000,"outcome":"COMPLETE","skew":0}}');
INSERT INTO event VALUES('018bcfe5-6800-704d-bfbd-0176de4bffef',0,'{"version":1,"rollback":{"event":"created","at":1700000000000,"created":{"id":"018bcfe5-6800-704d-bfbd-0176de4bffef","request":{"source":{"checkpoint":"018bcfe5-6800-704d-bfbd-0175d68077c2"},"selector":{},"selection":{},"strategy":{"gradual":{"canary":{"amount":{"count":1}},"sizes":[{"count":2}],"order":[]}},"policy":{"gate":{"min_healthy_time":3000,"healthy_deadline":10000,"max_failed":0,"ignore_health":false},"on_failure":"pause","on_unreachable":"fail","budgets":[],"max_rollback_time":30000,"report_grace":5000,"unreachable_after":5000,"max_duration":86400000},"reason":"release 2 is bad","requester":"operator/alice"},"plan":{"waves":[{"hosts":["a"],"canary":true,"order_group":0},{"hosts":["b"],"canary":false,"order_group":0}],"targets":{"a":"0101010101010101010101010101010101010101010101010101010101010101","b":"0101010101010101010101010101010101010101010101010101010101010101"}},"hosts":{"a":{"generation":5,"presence":{"connected":true,"health":"good","since":1700000000000,"evidence":"http: good"}},"b":{"generation":5,"presence":{"connected":true,"health":"good","since":1700000000000,"evidence":"http: good"}}}}}}');
INSERT INTO event VALUES('018bcfe5-6800-704d-bfbd-0176de4bffef',1,'{"version":1,"rollback":{"event":"wave_started","at":1700000000000,"wave":0}}');
INSERT INTO event VALUES('018bcfe5-6800-704d-bfbd-0176de4bffef',2,'{"version":1,"rollback":{"event":"host_started","at":1700000000000,"host":"a","generation":5,"deadline":1700000030000}}');
INSERT INTO event VALUES('018bcfe5-6800-704d-bfbd-0176de4bffef',3,'{"version":1,"rollback":{"event":"host_reported","at":1700000000000,"host":"a","step":"apply","answer":{"restored":{"standing":"target","backup":"0202020202020202020202020202020202020202020202020202020202020202","downtime":20,"steps":1,"bytes":1}}}}');
INSERT INTO event VALUES('018bcfe5-6800-704d-bfbd-0176de4bffef',4,'{"version":1,"rollback":{"event":"host_passed","at":1700000003000,"host":"a"}}');
INSERT INTO event VALUES('018bcfe5-6800-704d-bfbd-0176de4bffef',5,'{"version":1,"rollback":{"event":"wave_passed","at":1700000003000,"wave":0,"healthy":1,"failed":0}}');
INSERT INTO event VALUES('018bcfe5-6800-704d-bfbd-0176de4bffef',6,'{"version":1,"rollback":{"event":"wave_started","at":1700000003000,"wave":1}}');
INSERT INTO event VALUES('018bcfe5-6800-704d-bfbd-0176de4bffef',7,'{"version":1,"rollback":{"event":"host_started","at":1700000003000,"host":"b","generation":5,"deadline":1700000033000}}');
INSERT INTO event VALUES('018bcfe5-6800-704d-bfbd-0176de4bffef',8,'{"version":1,"rollback":{"event":"host_reported","at":1700000003000,"host":"b","step":"apply","answer":{"restored":{"standing":"target","backup":"0202020202020202020202020202020202020202020202020202020202020202","downtime":20,"steps":1,"bytes":1}}}}');
INSERT INTO event VALUES('018bcfe5-6800-704d-bfbd-0176de4bffef',9,'{"version":1,"rollback":{"event":"health_changed","at":1700000003000,"host":"b","health":"good","since":1700000003000,"evidence":"http: good"}}');
INSERT INTO event VALUES('018bcfe5-6800-704d-bfbd-0176de4bffef',10,'{"version":1,"rollback":{"event":"host_passed","at":1700000006000,"host":"b"}}');
INSERT INTO event VALUES('018bcfe5-6800-704d-bfbd-0176de4bffef',11,'{"version":1,"rollback":{"event":"wave_passed","at":1700000006000,"wave":1,"healthy":1,"failed":0}}');
INSERT INTO event VALUES('018bcfe5-6800-704d-bfbd-0176de4bffef',12,'{"version":1,"rollback":{"event":"finished","at":1700000006000,"outcome":"SUCCEEDED"}}');
INSERT INTO event VALUES('018bcfe5-b620-75d5-8c4e-5e1b641d401c',0,'{"version":1,"checkpoint":{"event":"created","at":1700000020000,"created":{"id":"018bcfe5-b620-75d5-8c4e-5e1b641d401c","request":{"kind":"manual","selector":{},"components":[],"labels":{},"reason":"before release 2","requester":"operator/alice","timeout":300000},"hosts":{"a":{"generation":9,"presence":{"connected":true,"health":"good","since":1700000000000,"evidence":"http: good"}},"b":{"generation":9,"presence":{"connected":true,"health":"good","since":1700000003000,"evidence":"http: good"}}}}}}');
INSERT INTO event VALUES('018bcfe5-b620-75d5-8c4e-5e1b641d401c',1,'{"version":1,"checkpoint":{"event":"host_reported","at":1700000020000,"host":"a","step":"prepare","answer":"prepared"}}');
INSERT INTO event VALUES('018bcfe5-b620-75d5-8c4e-5e1b641d401c',2,'{"version":1,"checkpoint":{"event":"host_reported","at":1700000020000,"host":"b","step":"prepare","answer":"prepared"}}');
INSERT INTO event VALUES('018bcfe5-b620-75d5-8c4e-5e1b641d401c',3,'{"version":1,"checkpoint":{"event":"cut_started","at":1700000020000}}');
INSERT INTO event VALUES('018bcfe5-b620-75d5-8c4e-5e1b641d401c',4,'{"version":1,"checkpoint":{"event":"host_reported","at":1700000020000,"host":"a","step":"cut","answer":{"captured":{"snapshot":"0101010101010101010101010101010101010101010101010101010101010101","cut_at":1700000020000,"bytes":10,"new_bytes":1,"entries":1}}}}');
INSERT INTO event VALUES('018bcfe5-b620-75d5-8c4e-5e1b641d401c',5,'{"version":1,"checkpoint":{"event":"host_reported","at":1700000020000,"host":"b","step":"cut","answer":{"captured":{"snapshot":"0101010101010101010101010101010101010101010101010101010101010101","cut_at":1700000020000,"bytes":10,"new_bytes":1,"entries":1}}}}');
INSERT INTO event VALUES('018bcfe5-b620-75d5-8c4e-5e1b641d401c',6,'{"version":1,"checkpoint":{"event":"finish_started","at":1700000020000,"deadline":1700000050000}}');
INSERT INTO event VALUES('018bcfe5-b620-75d5-8c4e-5e1b641d401c',7,'{"version":1,"checkpoint":{"event":"host_reported","at":1700000020000,"host":"a","step":"finish","answer":"finished"}}');
INSERT INTO event VALUES('018bcfe5-b620-75d5-8c4e-5e1b641d401c',8,'{"version":1,"checkpoint":{"event":"host_reported","at":1700000020000,"host":"b","step":"finish","answer":"finished"}}');
INSERT INTO event VALUES('018bcfe5-b620-75d5-8c4e-5e1b641d401c',9,'{"version":1,"checkpoint":{"event":"finished","at":1700000020000,"outcome":"COMPLETE","skew":0}}');
INSERT INTO event VALUES('018bcfe5-b620-75d5-8c4e-5e1c9d1a10ba',0,'{"version":1,"rollback":{"event":"created","at":1700000020000,"created":{"id":"018bcfe5-b620-75d5-8c4e-5e1c9d1a10ba","request":{"source":{"undo":"018bcfe5-6800-704d-bfbd-0176de4bffef"},"selector":{"hosts":["b"]},"selection":{},"strategy":{"gradual":{"canary":{"amount":{"count":1}},"sizes":[{"count":2}],"order":[]}},"policy":{"gate":{"min_healthy_time":3000,"healthy_deadline":10000,"max_failed":0,"ignore_health":false},"on_failure":"pause","on_unreachable":"fail","budgets":[],"max_rollback_time":30000,"report_grace":5000,"unreachable_after":5000,"max_duration":86400000},"reason":"release 2 is bad","requester":"operator/alice"},"plan":{"waves":[{"hosts":["b"],"canary":true,"order_group":0}],"targets":{"b":"0202020202020202020202020202020202020202020202020202020202020202"}},"hosts":{"b":{"generation":13,"presence":{"connected":true,"health":"good","since":1700000003000,"evidence":"http: good"}}}}}}');
INSERT INTO event VALUES('018bcfe5-b620-75d5-8c4e-5e1c9d1a10ba',1,'{"version":1,"rollback":{"event":"wave_started","at":1700000020000,"wave":0}}');
INSERT INTO event VALUES('018bcfe5-b620-75d5-8c4e-5e1c9d1a10ba',2,'{"version":1,"rollback":{"event":"host_started","at":1700000020000,"host":"b","generation":13,"deadline":1700000050000}}');
INSERT INTO event VALUES('018bcfe5-b620-75d5-8c4e-5e1c9d1a10ba',3,'{"version":1,"rollback":{"event":"host_reported","at":1700000020000,"host":"b","step":"apply","answer":{"restored":{"standing":"target","backup":"0101010101010101010101010101010101010101010101010101010101010101","downtime":20,"steps":1,"bytes":1}}}}');
INSERT INTO event VALUES('018bcfe5-b620-75d5-8c4e-5e1c9d1a10ba',4,'{"version":1,"rollback":{"event":"health_changed","at":1700000020000,"host":"b","health":"good","since":1700000020000,"evidence":"http: good"}}');
CREATE TABLE operation_state (
    operation TEXT PRIMARY KEY REFERENCES operation (id),
    position BIGINT NOT NULL,
    body TEXT NOT NULL,
    seal TEXT NOT NULL
);
CREATE TABLE checkpoint_snapshot (
    checkpoint TEXT NOT NULL REFERENCES operation (id),
    host TEXT NOT NULL,
    snapshot TEXT NOT NULL,
    dropped_at BIGINT,
    PRIMARY KEY (checkpoint, host)
);
INSERT INTO checkpoint_snapshot VALUES('018bcfe5-6800-704d-bfbd-0175d68077c2','a','0101010101010101010101010101010101010101010101010101010101010101',NULL);
INSERT INTO checkpoint_snapshot VALUES('018bcfe5-6800-704d-bfbd-0175d68077c2','b','0101010101010101010101010101010101010101010101010101010101010101',NULL);
CREATE TABLE request (
    id TEXT PRIMARY KEY,
    body TEXT NOT NULL,
    operation TEXT NOT NULL REFERENCES operation (id)
);
INSERT INTO request VALUES('deploy-2','{"kind":"manual","selector":{},"components":[],"deployment":"release-2","labels":{},"reason":"before release 2","requester":"operator/alice","timeout":300000}','018bcfe5-6800-704d-bfbd-0175d68077c2');
CREATE TABLE ownership (
    host TEXT PRIMARY KEY,
    generation BIGINT NOT NULL,
    owner TEXT,
    last_changer TEXT
);
INSERT INTO ownership VALUES('a',12,NULL,'018bcfe5-b620-75d5-8c4e-5e1b641d401c');
INSERT INTO ownership VALUES('b',16,'018bcfe5-b620-75d5-8c4e-5e1c9d1a10ba','018bcfe5-b620-75d5-8c4e-5e1c9d1a10ba');
CREATE TABLE host (
    name TEXT PRIMARY KEY,
    last_seen BIGINT NOT NULL,
    labels TEXT NOT NULL,
    inconsistent BIGINT NOT NULL,
    details TEXT NOT NULL,
    machines TEXT NOT NULL,
    forgotten_at BIGINT
);
INSERT INTO host VALUES('a',1700000000000,'{"role":"web"}',0,'','{}',NULL);
INSERT INTO host VALUES('b',1700000000000,'{"role":"web"}',0,'','{}',NULL);
INSERT INTO host VALUES('c',1700000000000,'{"role":"web"}',0,'','{}',1700000009000);
CREATE TABLE timeline (
    id BIGINT PRIMARY KEY,
    boot TEXT NOT NULL,
    uptime BIGINT NOT NULL,
    time BIGINT NOT NULL
);
CREATE INDEX operation_by_kind ON operation (kind, sequence);
CREATE INDEX operation_by_target ON operation (target, finished);
CREATE INDEX operation_open ON operation (is_open, sequence);
CREATE INDEX operation_by_deletion ON operation (deletion);
CREATE INDEX operation_by_proof ON operation (proves, sequence);
CREATE INDEX checkpoint_snapshot_by_host ON checkpoint_snapshot (host);
CREATE INDEX ownership_by_owner ON ownership (owner);
COMMIT;
