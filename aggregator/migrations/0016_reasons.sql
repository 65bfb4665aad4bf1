-- The history of notifications keeps the names of reasons, which programs and other languages go by, instead of their words.
UPDATE notification SET reason = CASE reason
  WHEN 'new alerts' THEN 'new_alerts'
  WHEN 'all resolved' THEN 'all_resolved'
  WHEN 'some resolved' THEN 'some_resolved'
  WHEN 'repeat interval passed' THEN 'repeat'
  WHEN 'resolved before it was ever delivered' THEN 'never_told'
  WHEN 'nothing new since the last notification' THEN 'nothing_new'
  WHEN 'all resolved, and send_resolved is off' THEN 'resolved_unwanted'
  WHEN 'replaced by a later notification' THEN 'replaced'
  WHEN 'the receiver is gone' THEN 'receiver_gone'
  WHEN 'could not be delivered for a day' THEN 'too_old'
  ELSE reason
END;
