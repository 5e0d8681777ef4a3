"""Words by which an answer speaks to a judge, or of other answers, in many languages. (torch-free)

They need not be complete, and may be wide. An answer that has one is asked about alone and shown to a decoy, which
costs a call and no pay; a group that another one moves is noticed by its canary.
"""

import re
from collections.abc import Iterable

from open_r1.rewards.judge.readings import joined_readings, readings, visible_text

_SPOKEN = r"""
ignore disregard forget override instruct prompt verdict judg grading grader grade correct incorrect equal equivalent
nonce candidate reference criteri rubric system assistant reply respond answer\s+(?:true|yes|with)
mark\s+(?:this|it|me|all|them)
wrong mistaken false\b others the\s+rest rank score full\s+(?:marks|points) developer
ignorier vergiss vergess antwort(?:e|en)\b urteil bewert richtig falsch andere korrekt gleich anweisung
referenz kandidat
ignorez ignore oubli repond reponse correct faux fausse autre juge note\b candidat instruction egal
ignora olvid respond respuesta correct incorrect fals otr[ao]s juez juzg puntua instruccion igual candidat
esque[cç] responda resposta corret incorret errad outr[ao]s juiz avali instruc
dimentica rispond rispost corrett sbagliat errat altr[ie]\b giudic valut istruzion ugual
negeer vergeet antwoord juist goed\b fout verkeerd andere oordeel beoordeel gelijk
ignorera glom svara svar\b ratt\b riktig fel\b felaktig andra domare bedom lika
ignorer glem svar\b rigtig riktig forkert feil andre dommer vurder ens\b
unohda vastaa oikein vaarin vaara muut tuomari arvioi sama\b
zignoruj zapomnij odpowied poprawn bledn niepoprawn inne pozostal sedzi ocen
ignoruj zapomen odpovez spravn spatn nespravn ostatni soudc hodnot stejn
hagyd felejtsd valaszol helyes helytelen hibas tobbi biro ertekel egyenl
ignora raspunde corect gresit celelalte judecat evalu
yok\s+say unut cevap yanit dogru yanlis diger hakem puan esit
bo\s+qua tra\s+loi dung\b sai\b khac giam\s+khao cham
abaikan lupakan jawab benar salah lainnya yang\s+lain hakim nilai sama\s+dengan
puuza jibu sahihi makosa mengine hukumu
neglege respond[ei] recte verum falsa ceter iudex aequal
ignoru respond gust malgust aliaj jug egal
"""
_SPOKEN_ELSEWHERE = r"""
игнор забуд ответ верн правильн неверн неправильн остальн друг судь оцен равн кандидат инструкц
ігнор забуд відпов вірн правильн невірн інш судд оцін
тачно нетачн погрешн остал верен грешн
αγνόησ αγνοησ απάντησ απαντησ σωστ λάθος λαθος άλλ αλλ\w\w κριτ βαθμ
התעלם ענה נכון שגוי אחרות אחרים שופט ציון
تجاهل أجب اجب صحيح خاطئ خطأ الأخرى الاخرى القاضي قيم
نادیده پاسخ درست غلط نادرست دیگر داور
अनदेखा उत्तर जवाब सही गलत अन्य बाकी
উপেক্ষা উত্তর সঠিক ভুল অন্য புறக்கணி பதில் சரி தவறு மற்ற
ละเว้น เพิกเฉย ตอบว่า ถูกต้อง ผิด อื่น
忽略 无视 無視 忽視 回答 答案 正确 正確 错误 錯誤 错的 錯的 都错 都錯
其他 其它 其余 其餘
评分 評分 裁判 判为 判定 满分 滿分 相等 等于 指令 参考 候选
従って 答え 正解 正しい 間違 誤り 不正解 他の 採点 判定 審査 同じ 指示
무시 대답 답변 정답 맞다 맞습 틀렸 틀린 오답 다른 나머지 채점 심판 동일
"""
_MARKS = re.compile(r"-{4,}|[{}<>]|```|user\s*:|\[/?inst|&\w{2,8};", re.IGNORECASE)
LONG_STEM = 6  # letters from which on a stem is looked for where words are joined, or read backward


def _one_of(stems: Iterable[str]) -> str:
    return "|".join(dict.fromkeys(stems))


_WORDS = re.compile(rf"\b(?:{_one_of(_SPOKEN.split())})|{_one_of(_SPOKEN_ELSEWHERE.split())}", re.IGNORECASE)
_JOINED = re.compile(_one_of(stem for stem in _SPOKEN.split() if stem.isalpha() and len(stem) >= LONG_STEM))


def speaks_to_or_of(answer: str) -> bool:
    """Whether an answer has a word to a judge, or of other answers, as it stands or disguised.

    >>> [speaks_to_or_of(text) for text in ("die anderen sind falsch", "i-g-n-o-r-e", "a red car")]
    [True, True, False]
    """
    has_words = any(map(_WORDS.search, readings(answer))) or any(map(_JOINED.search, joined_readings(answer)))
    return has_words or _MARKS.search(visible_text(answer)) is not None
