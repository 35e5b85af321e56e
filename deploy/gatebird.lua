-- Asks Gatebird who calls, for haproxy.cfg: HAProxy has no such request of its own.
--
--     http-request set-var(txn.demands) str(scope=posts:write)
--     http-request lua.gatebird
--
-- The demands are the query of /verify. A request that may not go on is answered here.

-- The listener of haproxy.cfg, which has the address of Gatebird and the time limits.
local LISTENER = "abns@gatebird"

-- What Gatebird is told of the request. Each header keeps all its lines, so that two tokens are seen, and refused.
local SENT = { "authorization", "accept-language", "origin", "x-request-id" }
-- What the API is told of the caller.
local IDENTITY = {
    "x-gatebird-user", "x-gatebird-nick", "x-gatebird-domain", "x-gatebird-host", "x-gatebird-host-verified",
    "x-gatebird-scope", "x-gatebird-token-expires",
}
-- What the caller is told of a refusal.
local TOLD = {
    "content-type", "cache-control", "www-authenticate", "retry-after", "vary", "x-request-id", "x-gatebird-reason",
    "access-control-allow-origin", "access-control-expose-headers",
}
-- Statuses that /verify does not give. To callers that know only RFC 6750, leave 419 out.
local STATUS_OF_REASON = { expired = 419, plan = 429 }

local NO_ANSWER = '{"code":503,"message":"Temporarily unavailable; try again in a moment","error":"temporarily_unavailable",'
    .. '"error_description":"Temporarily unavailable; try again in a moment","reason":"busy","requestId":"%s"}'

local function first(headers, name)
    return headers and headers[name] and headers[name][0]
end

local function unavailable(txn)
    local id = txn.sf:uuid()
    local reply = txn:reply()
    reply:set_status(503)
    reply:add_header("content-type", "application/json")
    reply:add_header("cache-control", "no-store")
    reply:add_header("retry-after", "1")
    reply:add_header("x-request-id", id)
    reply:set_body(NO_ANSWER:format(id))
    txn:done(reply)
end

local function refuse(txn, answer)
    local status = STATUS_OF_REASON[first(answer.headers, "x-gatebird-reason")] or answer.status
    local reply = txn:reply()
    reply:set_status(status)
    for _, name in ipairs(TOLD) do
        local value = first(answer.headers, name)
        if value then reply:add_header(name, value) end
    end
    -- An answer to HEAD has no body.
    if txn.sf:method() ~= "HEAD" then
        reply:set_body((answer.body:gsub('"code":%d+', '"code":' .. status, 1)))
    end
    txn:done(reply)
end

core.register_action("gatebird", { "http-req" }, function(txn)
    local sent, received = {}, txn.http:req_get_headers()
    for _, name in ipairs(SENT) do
        local lines = received[name]
        if lines then
            sent[name] = {}
            for line = 0, #lines do table.insert(sent[name], lines[line]) end
        end
    end
    sent["x-forwarded-for"] = { txn.sf:src() }
    local url = "http://gatebird/verify?" .. (txn:get_var("txn.demands") or "")
    local answer = core.httpclient():get({ url = url, dst = LISTENER, headers = sent })
    if not answer or answer.status == 0 or answer.status >= 500 then
        unavailable(txn)
    elseif answer.status ~= 200 then
        refuse(txn, answer)
    else
        for _, name in ipairs(IDENTITY) do
            local value = first(answer.headers, name)
            if value and value ~= "" then txn.http:req_set_header(name, value) end
        end
        txn:set_var("txn.page", first(answer.headers, "access-control-allow-origin") or "")
    end
end)
