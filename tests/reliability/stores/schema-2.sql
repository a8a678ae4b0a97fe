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
INSERT INTO "conversations" VALUES('ffbc9212d3c6b1af3574ee7b','local','How is the weather in 北京?','You are terse, local.','{"temperature": 0.5}','6f606eb2897d872811bb7e05','["38831000e3801edefb797270"]','["b01438a35db0d7ecf11d0def"]','918f1faed56dadea2167bf8e',1.7952601451298856735e+09,1.79526014513014340397e+09);
INSERT INTO "conversations" VALUES('86fa8fa5ad7132e4654ab895','alice','How is the weather in 北京?','You are terse, alice.','{"temperature": 0.5}','df072fdbbc99830ae4a83401','["0a4a5050b9a2c59467b2a474"]','["4b7432c904e1f44aca7b5864"]','522ff523b5ace1f8a8704222',1.79526014522676181798e+09,1.79526014522701668736e+09);
INSERT INTO "conversations" VALUES('633edd6e6c8bd4b9b746438e','local','an empty one','','{}',NULL,'[]','[]',NULL,1.79526014528873300549e+09,1.79526014528876376149e+09);
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
INSERT INTO "messages" VALUES(1,'b01438a35db0d7ecf11d0def','ffbc9212d3c6b1af3574ee7b',NULL,'user','How is the weather in 北京?
''; DROP TABLE messages; --','','[]',NULL,X'',NULL,'{}','complete',1.7952601451299035549e+09);
INSERT INTO "messages" VALUES(2,'471013c1fdd80862bd37a92b','ffbc9212d3c6b1af3574ee7b','b01438a35db0d7ecf11d0def','assistant','','','[{"id": "call_1", "type": "function", "function": {"name": "weather", "arguments": "{\"city\": \"北京\"}"}}]',NULL,X'','tool_calls','{}','complete',1.79526014512997293473e+09);
INSERT INTO "messages" VALUES(3,'51f4ee7bf5998bcd766f0702','ffbc9212d3c6b1af3574ee7b','471013c1fdd80862bd37a92b','tool','{"degrees": 21}','','[]','call_1',X'',NULL,'{}','complete',1.79526014512999176984e+09);
INSERT INTO "messages" VALUES(4,'7bc6e555176b05d7060bd156','ffbc9212d3c6b1af3574ee7b','51f4ee7bf5998bcd766f0702','assistant','21 degrees.','','[]',NULL,X'0500000000000000FFFFFFFF','stop','{}','complete',1.79526014513001179687e+09);
INSERT INTO "messages" VALUES(5,'918f1faed56dadea2167bf8e','ffbc9212d3c6b1af3574ee7b','7bc6e555176b05d7060bd156','user','Say it again','','[]',NULL,X'',NULL,'{}','complete',1.79526014513004183764e+09);
INSERT INTO "messages" VALUES(6,'559e3a42de814b3eb200eea2','ffbc9212d3c6b1af3574ee7b','918f1faed56dadea2167bf8e','assistant','21.','They want it
shorter.','[]',NULL,X'',NULL,'{"ttft_ms": 1.5}','complete',1.79526014513005781171e+09);
INSERT INTO "messages" VALUES(7,'6f606eb2897d872811bb7e05','ffbc9212d3c6b1af3574ee7b','918f1faed56dadea2167bf8e','assistant','Twenty-one   degrees 🙂','','[]',NULL,X'',NULL,'{}','partial',1.79526014513008308403e+09);
INSERT INTO "messages" VALUES(8,'38831000e3801edefb797270','ffbc9212d3c6b1af3574ee7b','6f606eb2897d872811bb7e05','user','one more','','[]',NULL,X'',NULL,'{}','complete',1.79526014513009858132e+09);
INSERT INTO "messages" VALUES(9,'4b7432c904e1f44aca7b5864','86fa8fa5ad7132e4654ab895',NULL,'user','How is the weather in 北京?
''; DROP TABLE messages; --','','[]',NULL,X'',NULL,'{}','complete',1.79526014522677922246e+09);
INSERT INTO "messages" VALUES(10,'9c96863ca540f4d8f2a24dda','86fa8fa5ad7132e4654ab895','4b7432c904e1f44aca7b5864','assistant','','','[{"id": "call_1", "type": "function", "function": {"name": "weather", "arguments": "{\"city\": \"北京\"}"}}]',NULL,X'','tool_calls','{}','complete',1.79526014522685265538e+09);
INSERT INTO "messages" VALUES(11,'ef8d05affc66e44c0fd131f4','86fa8fa5ad7132e4654ab895','9c96863ca540f4d8f2a24dda','tool','{"degrees": 21}','','[]','call_1',X'',NULL,'{}','complete',1795260145.22687);
INSERT INTO "messages" VALUES(12,'9117163033c56c17daab0d47','86fa8fa5ad7132e4654ab895','ef8d05affc66e44c0fd131f4','assistant','21 degrees.','','[]',NULL,X'0500000000000000FFFFFFFF','stop','{}','complete',1.79526014522688484196e+09);
INSERT INTO "messages" VALUES(13,'522ff523b5ace1f8a8704222','86fa8fa5ad7132e4654ab895','9117163033c56c17daab0d47','user','Say it again','','[]',NULL,X'',NULL,'{}','complete',1795260145.22691);
INSERT INTO "messages" VALUES(14,'513e9457bc8e8effd67a52b8','86fa8fa5ad7132e4654ab895','522ff523b5ace1f8a8704222','assistant','21.','They want it
shorter.','[]',NULL,X'',NULL,'{"ttft_ms": 1.5}','complete',1.79526014522692489621e+09);
INSERT INTO "messages" VALUES(15,'df072fdbbc99830ae4a83401','86fa8fa5ad7132e4654ab895','522ff523b5ace1f8a8704222','assistant','Twenty-one   degrees 🙂','','[]',NULL,X'',NULL,'{}','partial',1.79526014522694778445e+09);
INSERT INTO "messages" VALUES(16,'0a4a5050b9a2c59467b2a474','86fa8fa5ad7132e4654ab895','df072fdbbc99830ae4a83401','user','one more','','[]',NULL,X'',NULL,'{}','complete',1.79526014522696113588e+09);
CREATE TABLE responses (
	id VARCHAR(32) NOT NULL, 
	owner TEXT NOT NULL, 
	conversation_id VARCHAR(32) NOT NULL, 
	message_id VARCHAR(32) NOT NULL, 
	body JSON NOT NULL, 
	created_at_utc FLOAT NOT NULL, 
	PRIMARY KEY (id), 
	FOREIGN KEY(conversation_id) REFERENCES conversations (id) ON DELETE CASCADE
);
INSERT INTO "responses" VALUES('response-of-local','local','ffbc9212d3c6b1af3574ee7b','6f606eb2897d872811bb7e05','{"status": "completed"}',1.79526014521891307831e+09);
INSERT INTO "responses" VALUES('response-of-alice','alice','86fa8fa5ad7132e4654ab895','df072fdbbc99830ae4a83401','{"status": "completed"}',1.79526014528053569794e+09);
CREATE TABLE sessions (
	owner TEXT NOT NULL, 
	session_id BIGINT NOT NULL, 
	conversation_id VARCHAR(32) NOT NULL, 
	PRIMARY KEY (owner, session_id), 
	FOREIGN KEY(conversation_id) REFERENCES conversations (id) ON DELETE CASCADE
);
INSERT INTO "sessions" VALUES('local',7,'ffbc9212d3c6b1af3574ee7b');
INSERT INTO "sessions" VALUES('alice',7,'86fa8fa5ad7132e4654ab895');
CREATE TABLE store_version (
	version INTEGER NOT NULL
);
INSERT INTO "store_version" VALUES(2);
CREATE TABLE turn_leases (
	name VARCHAR(32) NOT NULL, 
	conversation_id VARCHAR(32) NOT NULL, 
	turn_id VARCHAR(32) NOT NULL, 
	owner TEXT NOT NULL, 
	writer TEXT NOT NULL, 
	seen_at_utc FLOAT NOT NULL, 
	is_cancelled BOOLEAN NOT NULL, 
	PRIMARY KEY (name), 
	FOREIGN KEY(conversation_id) REFERENCES conversations (id) ON DELETE CASCADE
);
CREATE TABLE turns_under_way (
	message_id VARCHAR(32) NOT NULL, 
	conversation_id VARCHAR(32) NOT NULL, 
	writer TEXT NOT NULL, 
	seen_at_utc FLOAT NOT NULL, 
	PRIMARY KEY (message_id), 
	FOREIGN KEY(message_id) REFERENCES messages (id) ON DELETE CASCADE, 
	FOREIGN KEY(conversation_id) REFERENCES conversations (id) ON DELETE CASCADE
);
INSERT INTO "turns_under_way" VALUES('6f606eb2897d872811bb7e05','ffbc9212d3c6b1af3574ee7b','elsewhere 1/1 4194304 1 00000000',1.79526014519213199618e+09);
INSERT INTO "turns_under_way" VALUES('df072fdbbc99830ae4a83401','86fa8fa5ad7132e4654ab895','elsewhere 1/1 4194304 1 00000000',1.79526014525784468646e+09);
CREATE INDEX conversations_of_owner ON conversations (owner, updated_at_utc);
CREATE INDEX messages_of_conversation ON messages (conversation_id, position);
CREATE INDEX turns_under_way_of_conversation ON turns_under_way (conversation_id);
CREATE INDEX turn_leases_of_turn ON turn_leases (turn_id);
CREATE INDEX turn_leases_of_writer ON turn_leases (writer);
CREATE INDEX sessions_of_conversation ON sessions (conversation_id);
CREATE INDEX responses_of_conversation ON responses (conversation_id);
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
