BEGIN TRANSACTION;
CREATE TABLE conversations (
	id VARCHAR(32) NOT NULL, 
	owner TEXT NOT NULL, 
	title TEXT NOT NULL, 
	system TEXT NOT NULL, 
	settings JSON NOT NULL, 
	tip_id VARCHAR(32), 
	redo_ids JSON NOT NULL, 
	pinned_ids JSON NOT NULL, 
	window_start_id VARCHAR(32), 
	created_at_utc FLOAT NOT NULL, 
	updated_at_utc FLOAT NOT NULL, 
	PRIMARY KEY (id)
);
INSERT INTO "conversations" VALUES('48785f207fcd415419d7caaf','local','How is the weather in 北京?','You are terse, local.','{"temperature": 0.5}','8399ce03c91765ca5a89b354','["f5afdfd7f55008c96f36613f"]','["2a11abb52ed722c0abe95d47"]','da007ef1cb8f5dbaac4522b7',1.79526014479273033144e+09,1.79526014479719352723e+09);
INSERT INTO "conversations" VALUES('2f2bedbe131252e46a3c03fa','alice','How is the weather in 北京?','You are terse, alice.','{"temperature": 0.5}','0e32f33c12381ac71f6b1b11','["824c6b2b9442a20e13fad798"]','["8a97c896fc1e3546ed4d2a1c"]','f02fb74717b9841b2087c324',1.79526014487604284285e+09,1.79526014487629604343e+09);
INSERT INTO "conversations" VALUES('987597d20b7a11cc3b9a11e1','local','an empty one','','{}',NULL,'[]','[]',NULL,1.79526014491678333282e+09,1.79526014491680383682e+09);
CREATE TABLE messages (
	position INTEGER NOT NULL, 
	id VARCHAR(32) NOT NULL, 
	conversation_id VARCHAR(32) NOT NULL, 
	parent_id VARCHAR(32), 
	role TEXT NOT NULL, 
	content TEXT NOT NULL, 
	reasoning TEXT NOT NULL, 
	tool_calls JSON NOT NULL, 
	tool_call_id TEXT, 
	token_ids BLOB NOT NULL, 
	finish_reason TEXT, 
	usage JSON NOT NULL, 
	status TEXT NOT NULL, 
	created_at_utc FLOAT NOT NULL, 
	PRIMARY KEY (position), 
	UNIQUE (id), 
	FOREIGN KEY(conversation_id) REFERENCES conversations (id) ON DELETE CASCADE
);
INSERT INTO "messages" VALUES(1,'2a11abb52ed722c0abe95d47','48785f207fcd415419d7caaf',NULL,'user','How is the weather in 北京?
''; DROP TABLE messages; --','','[]',NULL,X'',NULL,'{}','complete',1.79526014479275035861e+09);
INSERT INTO "messages" VALUES(2,'26b135c35afec6ec791285b1','48785f207fcd415419d7caaf','2a11abb52ed722c0abe95d47','assistant','','','[{"id": "call_1", "type": "function", "function": {"name": "weather", "arguments": "{\"city\": \"北京\"}"}}]',NULL,X'','tool_calls','{}','complete',1.79526014479288148874e+09);
INSERT INTO "messages" VALUES(3,'00fdbb60f6217ba0badd2bcd','48785f207fcd415419d7caaf','26b135c35afec6ec791285b1','tool','{"degrees": 21}','','[]','call_1',X'',NULL,'{}','complete',1.79526014479290962214e+09);
INSERT INTO "messages" VALUES(4,'3e449c205461f46f765c8833','48785f207fcd415419d7caaf','00fdbb60f6217ba0badd2bcd','assistant','21 degrees.','','[]',NULL,X'0500000000000000FFFFFFFF','stop','{}','complete',1.79526014479292845725e+09);
INSERT INTO "messages" VALUES(5,'da007ef1cb8f5dbaac4522b7','48785f207fcd415419d7caaf','3e449c205461f46f765c8833','user','Say it again','','[]',NULL,X'',NULL,'{}','complete',1.7952601447970702648e+09);
INSERT INTO "messages" VALUES(6,'5109b55b6869041c6fb57285','48785f207fcd415419d7caaf','da007ef1cb8f5dbaac4522b7','assistant','21.','They want it
shorter.','[]',NULL,X'',NULL,'{"ttft_ms": 1.5}','complete',1.79526014479709362979e+09);
INSERT INTO "messages" VALUES(7,'8399ce03c91765ca5a89b354','48785f207fcd415419d7caaf','da007ef1cb8f5dbaac4522b7','assistant','Twenty-one   degrees 🙂','','[]',NULL,X'',NULL,'{}','partial',1.79526014479712438579e+09);
INSERT INTO "messages" VALUES(8,'f5afdfd7f55008c96f36613f','48785f207fcd415419d7caaf','8399ce03c91765ca5a89b354','user','one more','','[]',NULL,X'',NULL,'{}','complete',1.79526014479714012147e+09);
INSERT INTO "messages" VALUES(9,'8a97c896fc1e3546ed4d2a1c','2f2bedbe131252e46a3c03fa',NULL,'user','How is the weather in 北京?
''; DROP TABLE messages; --','','[]',NULL,X'',NULL,'{}','complete',1.79526014487605905536e+09);
INSERT INTO "messages" VALUES(10,'47393131a28213ffac659617','2f2bedbe131252e46a3c03fa','8a97c896fc1e3546ed4d2a1c','assistant','','','[{"id": "call_1", "type": "function", "function": {"name": "weather", "arguments": "{\"city\": \"北京\"}"}}]',NULL,X'','tool_calls','{}','complete',1.79526014487613701816e+09);
INSERT INTO "messages" VALUES(11,'42ee74eaada42c237ad9e053','2f2bedbe131252e46a3c03fa','47393131a28213ffac659617','tool','{"degrees": 21}','','[]','call_1',X'',NULL,'{}','complete',1.79526014487615418434e+09);
INSERT INTO "messages" VALUES(12,'d623b4c8547cf4676e0c34d6','2f2bedbe131252e46a3c03fa','42ee74eaada42c237ad9e053','assistant','21 degrees.','','[]',NULL,X'0500000000000000FFFFFFFF','stop','{}','complete',1.79526014487616896626e+09);
INSERT INTO "messages" VALUES(13,'f02fb74717b9841b2087c324','2f2bedbe131252e46a3c03fa','d623b4c8547cf4676e0c34d6','user','Say it again','','[]',NULL,X'',NULL,'{}','complete',1.79526014487619400023e+09);
INSERT INTO "messages" VALUES(14,'00b1b5f47f27948ad0de4dce','2f2bedbe131252e46a3c03fa','f02fb74717b9841b2087c324','assistant','21.','They want it
shorter.','[]',NULL,X'',NULL,'{"ttft_ms": 1.5}','complete',1.79526014487620854372e+09);
INSERT INTO "messages" VALUES(15,'0e32f33c12381ac71f6b1b11','2f2bedbe131252e46a3c03fa','f02fb74717b9841b2087c324','assistant','Twenty-one   degrees 🙂','','[]',NULL,X'',NULL,'{}','partial',1.79526014487623238567e+09);
INSERT INTO "messages" VALUES(16,'824c6b2b9442a20e13fad798','2f2bedbe131252e46a3c03fa','0e32f33c12381ac71f6b1b11','user','one more','','[]',NULL,X'',NULL,'{}','complete',1.79526014487624621393e+09);
CREATE TABLE store_version (
	version INTEGER NOT NULL
);
INSERT INTO "store_version" VALUES(1);
CREATE TABLE turns_under_way (
	message_id VARCHAR(32) NOT NULL, 
	conversation_id VARCHAR(32) NOT NULL, 
	writer TEXT NOT NULL, 
	seen_at_utc FLOAT NOT NULL, 
	PRIMARY KEY (message_id), 
	FOREIGN KEY(message_id) REFERENCES messages (id) ON DELETE CASCADE, 
	FOREIGN KEY(conversation_id) REFERENCES conversations (id) ON DELETE CASCADE
);
INSERT INTO "turns_under_way" VALUES('8399ce03c91765ca5a89b354','48785f207fcd415419d7caaf','elsewhere 1/1 4194304 1 00000000',1.79526014485994076736e+09);
INSERT INTO "turns_under_way" VALUES('0e32f33c12381ac71f6b1b11','2f2bedbe131252e46a3c03fa','elsewhere 1/1 4194304 1 00000000',1.79526014490629982943e+09);
CREATE INDEX conversations_of_owner ON conversations (owner, updated_at_utc);
CREATE INDEX messages_of_conversation ON messages (conversation_id, position);
CREATE INDEX turns_under_way_of_conversation ON turns_under_way (conversation_id);
CREATE VIRTUAL TABLE message_search USING fts5(words, tokenize='unicode61', prefix='1 2 3');
INSERT INTO message_search(rowid, words) VALUES(1, 'how is the weather in 北京 京 drop table messages');
INSERT INTO message_search(rowid, words) VALUES(3, 'degrees 21');
INSERT INTO message_search(rowid, words) VALUES(4, '21 degrees');
INSERT INTO message_search(rowid, words) VALUES(5, 'say it again');
INSERT INTO message_search(rowid, words) VALUES(6, '21');
INSERT INTO message_search(rowid, words) VALUES(8, 'one more');
INSERT INTO message_search(rowid, words) VALUES(9, 'how is the weather in 北京 京 drop table messages');
INSERT INTO message_search(rowid, words) VALUES(11, 'degrees 21');
INSERT INTO message_search(rowid, words) VALUES(12, '21 degrees');
INSERT INTO message_search(rowid, words) VALUES(13, 'say it again');
INSERT INTO message_search(rowid, words) VALUES(14, '21');
INSERT INTO message_search(rowid, words) VALUES(16, 'one more');
COMMIT;
PRAGMA journal_mode = WAL;
