"""Word lists of the training text, English and Chinese, all written for this project.

Nothing here is random: `values.py` draws from these lists, and mixes in made-up names and words.
"""

from __future__ import annotations


def _pairs(text: str) -> dict[str, str]:
    """Read "cat 猫, dog 狗" as {"cat": "猫", "dog": "狗"}."""
    return dict(pair.split() for pair in text.replace("\n", " ").split(", "))


FIRST_NAMES = (
    "Alice Bob Tom Anna Emma Jack Lucy Mike Lily Sam Ben Kate Paul Nina Leo Mia Oscar Ruth Ivan Zoe Hugo Clara Felix Ella "
    "Max Sara Omar Yuki Priya Diego John Mary Peter Linda James Laura David Susan George Helen Frank Maria Karl Eva Simon "
    "Julia Martin Sophie Daniel Grace Victor Rosa Adam Olga Noah Ida Liam Nora Ali Fatima Chen Wei Kim Jin Raj Anya Igor "
    "Lena Pedro Marta Luca Greta Hans Ingrid Pierre Claire Akira Hana Kofi Amara Tariq Layla Robin Alex Charlie"
).split()
CHINESE_NAMES = (
    "小明 小红 小华 小丽 李雷 韩梅 王芳 张伟 刘洋 陈静 赵敏 周杰 吴婷 孙悦 林涛 阿强 小雨 大山 文文 乐乐 晓月 小刚 小芳 李明 王磊 "
    "张敏 陈晨 杨洋 黄蓉 郭靖 马丽 何平 高山 梁博 宋佳 唐宁 许飞 邓超 冯军 于洋"
).split()
SURNAMES = "欧阳 司马 诸葛 上官 慕容 司徒".split() + list(
    "王李张刘陈杨赵黄周吴徐孙胡朱高林何郭马罗梁宋郑谢韩唐冯于董萧程曹袁邓许傅沈曾彭吕苏卢蒋蔡贾丁魏薛叶阎余潘杜戴夏钟汪田任姜范方石姚谭"
    "廖邹熊金陆郝孔白崔康毛邱秦江史顾侯邵孟龙万段雷钱汤尹黎易常武乔贺赖龚文"
)
NAME_CHARACTERS = (  # such as parents choose
    "伟强磊军洋勇杰涛明超平刚辉鹏飞波斌宇浩凯健俊帆帅旭宁龙林欢佳阳嘉豪博文轩子涵欣雨诗梦静丽娜敏艳秀兰英华玉梅红霞燕玲桂芳娟芬珍云莲真环雪荣爱妹"
    "香月瑞凡慧巧美雅芝萍晶莹洁颖露瑶婉蓉眉君琴蕊韵融园艺咏卿聪澜纯悦昭冰爽羽希飘育柔竹凝晓枫菲寒伊亚宜可舒影荔枝思建国志海峰花天大小春秋山水星晨"
    "安康福贵财宝金银铜铁成功胜利新民生世界和顺永久长远良才德义仁信礼智忠孝清廉正直光昌盛兴旺发达进步跃升腾翔航程鸿雁鹤凤凰虎豹熊鹿马牛羊松柏柳杨"
    "桃李杏梨荷菊茶叶草木森栋梁柱石岩岭峻川江河湖泊溪泉源流浪潮汐泽润浴沛霖霜雾虹彩霓晴朗暖旦一二三四五六七八九十百千万东南西北中上下左右前后里外"
    "方圆高低短青蓝绿黄紫白黑丹朱墨书画棋词歌赋章典籍学问道理哲谦逊恒毅坚定宏巍峨壮雄迈武威震奇妙灵俏彤彦彬彰徽徐循微征律得御心忆快念怀恩悟惠意慈"
    "慕承抒拓振捷掌提摇攀政敬斯昂昆易映显晋普景曙有朋朔望本"
    "梓萱怡琪莺媛婷薇菁岚婕馨茗芸麟沐霁煦曦晖倩昕昱晗晟暄曜妍璐睿瑜玥煜烨祺茜雯霏钰鑫淼焱垚骁昊炜煊燚琦琛珂瑾璇皓祎翊翎芮芊苒蓓黛旻旸泓淇湉滢漪潇"
)
PLACE_CHARACTERS = "城山河江海州阳安宁东南西北京港口岛湾湖谷原田村镇乡庄桥关门堡丰台坪坝沟泉塘墩屯寨浦溪洲津岭陵"
CITIES = _pairs(
    "Paris 巴黎, London 伦敦, Beijing 北京, Shanghai 上海, Tokyo 东京, Berlin 柏林, Rome 罗马, Madrid 马德里, Sydney 悉尼, Moscow 莫斯科, "
    "Cairo 开罗, Hangzhou 杭州, Shenzhen 深圳, Vienna 维也纳, Oslo 奥斯陆, Chicago 芝加哥, Boston 波士顿, Seattle 西雅图, Toronto 多伦多, "
    "Lisbon 里斯本, Dublin 都柏林, Prague 布拉格, Warsaw 华沙, Athens 雅典, Munich 慕尼黑, Milan 米兰, Seoul 首尔, Bangkok 曼谷, Delhi 德里, "
    "Mumbai 孟买, Guangzhou 广州, Chengdu 成都, Wuhan 武汉, Nanjing 南京, Suzhou 苏州, Tianjin 天津, Qingdao 青岛, Xiamen 厦门, Harbin 哈尔滨, "
    "Lima 利马, Nairobi 内罗毕, Helsinki 赫尔辛基, Stockholm 斯德哥尔摩, Geneva 日内瓦"
)
LONG_CITIES = (
    "New York",
    "San Francisco",
    "Los Angeles",
    "Hong Kong",
    "Buenos Aires",
    "Mexico City",
    "Cape Town",
    "Rio de Janeiro",
)
COLOURS = _pairs(
    "red 红色, blue 蓝色, green 绿色, yellow 黄色, black 黑色, white 白色, purple 紫色, orange 橙色, pink 粉色, brown 棕色, grey 灰色, gold 金色, "
    "silver 银色"
)
FOODS = _pairs(
    "pizza 披萨, rice 米饭, noodles 面条, cake 蛋糕, soup 汤, bread 面包, apples 苹果, cheese 奶酪, dumplings 饺子, sushi 寿司, pasta 意面, "
    "chocolate 巧克力, fish 鱼, salad 沙拉, bananas 香蕉, eggs 鸡蛋, tofu 豆腐, curry 咖喱, hotpot 火锅, pancakes 煎饼"
)
LIKES = _pairs(
    "trains 火车, music 音乐, books 书, football 足球, chess 象棋, dancing 跳舞, swimming 游泳, flowers 花, cats 猫, dogs 狗, movies 电影, "
    "games 游戏, tea 茶, coffee 咖啡, running 跑步, painting 画画, singing 唱歌, mountains 山, ships 船, robots 机器人, stars 星星, birds 鸟, "
    "cooking 做饭, maps 地图, bicycles 自行车, planes 飞机, horses 马, tennis 网球"
)
JOBS = _pairs(
    "teacher 老师, doctor 医生, nurse 护士, driver 司机, cook 厨师, farmer 农民, writer 作家, painter 画家, singer 歌手, student 学生, "
    "engineer 工程师, lawyer 律师, pilot 飞行员, sailor 水手, dentist 牙医, gardener 园丁, baker 面包师, programmer 程序员"
)
DICTIONARY = _pairs(
    "cat 猫, dog 狗, bird 鸟, fish 鱼, horse 马, cow 牛, sheep 羊, pig 猪, tiger 老虎, rabbit 兔子, mouse 老鼠, monkey 猴子, bear 熊, "
    "water 水, fire 火, tree 树, flower 花, sun 太阳, moon 月亮, star 星星, sky 天空, rain 雨, snow 雪, wind 风, cloud 云, mountain 山, "
    "river 河, sea 海, apple 苹果, banana 香蕉, bread 面包, rice 米饭, milk 牛奶, tea 茶, coffee 咖啡, egg 鸡蛋, cake 蛋糕, soup 汤, book 书, "
    "pen 笔, table 桌子, chair 椅子, door 门, window 窗户, house 房子, car 汽车, train 火车, plane 飞机, boat 船, bicycle 自行车, phone 手机, "
    "computer 电脑, school 学校, teacher 老师, student 学生, friend 朋友, mother 妈妈, father 爸爸, child 孩子, music 音乐, game 游戏, love 爱, "
    "happy 高兴, sad 难过, big 大, small 小, hot 热, cold 冷, new 新, old 旧, good 好, bad 坏, fast 快, slow 慢, red 红色, blue 蓝色, "
    "green 绿色, yellow 黄色, black 黑色, white 白色, one 一, two 二, three 三, ten 十, today 今天, tomorrow 明天, yesterday 昨天, "
    "hello 你好, goodbye 再见, thanks 谢谢, city 城市, night 夜晚, morning 早上, year 年, hand 手, eye 眼睛, heart 心"
)
WORDS = sorted(
    set(DICTIONARY)
    | set(COLOURS)
    | set(
        "lamp desk cup hat box map key sock jump run walk sing lion frog duck goat nest leaf seed rock sand ship road king "
        "queen ring song bell ball kite drum iron wood glass paper stone bridge garden castle dragon forest island summer "
        "winter spring robot rocket planet pencil pocket button candle basket letter number magic lemon tomato pepper cotton "
        "hammer ladder mirror needle orange ocean parrot pillow potato puzzle rainbow ribbon saddle shadow spider sugar "
        "thunder tunnel turtle umbrella velvet village violin walnut window wizard yogurt zebra banjo cactus dolphin eagle "
        "feather giraffe helmet igloo jacket kettle lantern".split()
    )
)
SENTENCE_WORDS = (
    "the a my your this that one every quick slow little old new red green cold happy brown small big quiet dog cat fox bird boy girl "
    "man river house tree train sky rain sun moon boat garden door sees likes finds eats jumps over runs under sits near to in on at "
    "with and but then today now always never home fast well here there is was has lazy we they she he it has two three apples"
).split()
ANIMALS = _pairs(
    "cat 猫, dog 狗, bird 鸟, fish 鱼, horse 马, cow 牛, sheep 羊, pig 猪, tiger 老虎, rabbit 兔子, mouse 老鼠, monkey 猴子, bear 熊, fox 狐狸, "
    "robot 机器人, dragon 龙, lion 狮子, duck 鸭子, frog 青蛙, star 星星, boat 船, train 火车, child 孩子, king 国王"
)
ROLES = _pairs(
    "pirate 海盗, robot 机器人, teacher 老师, wizard 巫师, doctor 医生, chef 厨师, detective 侦探, knight 骑士, librarian 图书管理员, "
    "astronaut 宇航员, gardener 园丁, poet 诗人, assistant 助手, dragon 龙, cat 猫, farmer 农民, guide 导游, singer 歌手, scientist 科学家, "
    "sailor 水手"
)
TITLES = ("Captain", "Doctor", "Professor", "Mister", "Lady", "Uncle", "Queen", "King", "Old", "Little")
WEATHER = _pairs(
    "sunny 晴天, cloudy 多云, rainy 下雨, snowy 下雪, windy 有风, foggy 有雾, clear 晴朗, stormy 暴风雨, hot 炎热, cold 寒冷"
)

LISTS: dict[str, tuple[tuple[str, ...], tuple[str, ...], tuple[str, ...], tuple[str, ...]]] = {
    # key: English names of the list, Chinese names of the list, English items, Chinese items
    "days": (
        ("the days of the week", "the weekdays", "all days of the week", "the seven days of the week"),
        ("一周的七天", "星期", "一个星期的每一天", "一周七天"),
        tuple("Monday Tuesday Wednesday Thursday Friday Saturday Sunday".split()),
        tuple("星期" + day for day in "一二三四五六日"),
    ),
    "months": (
        ("the months of the year", "the months", "the twelve months", "all months of the year"),
        ("一年的十二个月", "月份", "十二个月", "一年的所有月份"),
        tuple("January February March April May June July August September October November December".split()),
        tuple(month + "月" for month in "一 二 三 四 五 六 七 八 九 十 十一 十二".split()),
    ),
    "colours": (
        ("some colours", "six colors", "colours", "a few colors", "the names of some colours"),
        ("一些颜色", "六种颜色", "几种颜色", "颜色"),
        tuple("red orange yellow green blue purple".split()),
        tuple("红色 橙色 黄色 绿色 蓝色 紫色".split()),
    ),
    "planets": (
        ("the planets", "the eight planets", "the planets of the solar system", "all planets"),
        ("行星", "八大行星", "太阳系的行星", "太阳系的八大行星"),
        tuple("Mercury Venus Earth Mars Jupiter Saturn Uranus Neptune".split()),
        tuple("水星 金星 地球 火星 木星 土星 天王星 海王星".split()),
    ),
    "seasons": (
        ("the seasons", "the four seasons", "the seasons of the year"),
        ("四季", "四个季节", "一年四季"),
        tuple("spring summer autumn winter".split()),
        tuple("春天 夏天 秋天 冬天".split()),
    ),
    "animals": (
        ("some animals", "five animals", "a few animals", "animals"),
        ("一些动物", "五种动物", "几种动物", "动物"),
        tuple("cat dog bird horse rabbit".split()),
        tuple("猫 狗 鸟 马 兔子".split()),
    ),
    "fruits": (
        ("some fruits", "five fruits", "a few fruits", "fruits"),
        ("一些水果", "五种水果", "几种水果", "水果"),
        tuple("apple banana orange grape lemon".split()),
        tuple("苹果 香蕉 橙子 葡萄 柠檬".split()),
    ),
}

TOPICS = (
    "quantum physics|the stock market|black holes|the French Revolution|photosynthesis|Shakespeare|blockchain|democracy|the Roman Empire|DNA|"
    "climate change|relativity|chess openings|jazz|the human brain|volcanoes|dinosaurs|electric cars|tax law|the Olympic Games|philosophy|"
    "Greek mythology|machine learning|neural networks|inflation|the Cold War|vaccines|antibiotics|gravity|the speed of light|Brazil|Mongolia|"
    "the president of France|the tallest building|the deepest lake|ancient Egypt|Bitcoin|cryptography|compilers|operating systems|Kubernetes|"
    "databases|the meaning of life|world peace|gardening|knitting|the best phone|football results|the latest news|the price of gold|"
    "health insurance|a good movie|the opera|sculpture|architecture|marine biology|penguins|whales|tectonic plates|nuclear power|"
    "solar panels|rocket engines|the Mars rover|the Great Wall|the Silk Road|Buddhism|castles|pirates|Vikings|the printing press|"
    "the steam engine|calculus|linear algebra|prime numbers|probability|statistics|organic chemistry|the periodic table|economics|"
    "psychology|dreams|sleep|nutrition|vitamins|yoga|marathon training|swimming|tennis|lasagna|sourdough|wine|cheese|coffee|Iceland|visas|"
    "mortgages|retirement|job interviews|resumes|public speaking|poker|video games|anime|comics|guitar chords|the piano|the sky|the ocean|"
    "the internet|elections|Napoleon|Einstein|Mozart|Leonardo da Vinci|Newton|Cleopatra|Tesla|Google|Linux|Python|JavaScript|the moon landing|"
    "earthquakes|rainbows|love|happiness|money|time travel|aliens|ghosts|vampires|unicorns|robots|space|art|history|biology"
).split("|")
CHINESE_TOPICS = (
    "量子物理|股票市场|黑洞|法国大革命|光合作用|莎士比亚|区块链|民主|罗马帝国|基因|气候变化|相对论|围棋|爵士乐|大脑|火山|恐龙|电动汽车|税法|奥运会|"
    "哲学|希腊神话|机器学习|神经网络|通货膨胀|冷战|疫苗|抗生素|重力|光速|巴西|法国总统|最高的建筑|最深的湖|古埃及|比特币|密码学|编译器|操作系统|"
    "数据库|人生的意义|世界和平|园艺|最新的新闻|黄金价格|医疗保险|电影|小说|歌剧|建筑|企鹅|鲸鱼|核能|太阳能|火箭发动机|长城|丝绸之路|佛教|中世纪|"
    "海盗|印刷术|蒸汽机|微积分|线性代数|质数|概率|统计学|有机化学|元素周期表|经济学|心理学|做梦|睡眠|营养|维生素|瑜伽|马拉松|游泳|网球|红酒|旅行|"
    "签证|房贷|退休|面试|简历|演讲|扑克|动漫|漫画|吉他|钢琴|唐朝|红楼梦|诸葛亮|高铁|中药|书法|京剧|茶道|人工智能|计算机网络|红烧肉|饺子馅|拿破仑|"
    "爱因斯坦|秦始皇|西游记|孙悟空|孔子|李白|春节|中秋节|互联网|大学|高考|房价|天空|海洋|爱情|幸福|时间旅行|外星人|彩虹|地震"
).split("|")
VERBS = (
    "fix build repair paint clean sell buy design install cook bake draw train grow plant write read invent explain compare test cut "
    "fold wash drive fly open close move find choose order return make learn"
).split()
THINGS = (
    "a bike|a car engine|a house|a website|a sofa|a violin|a tomato plant|a kite|a drone|a blog|a contract|a compiler|a novel|a garden|"
    "a roof|a boat|a laptop|a phone screen|a shirt|a cake|a robot|a camera|a clock|a bridge|a business|a company|a language|a band|"
    "a resignation letter|an email|a birthday card|pancakes|a chicken|a tent|a plane ticket|a printer|a password|a router|a cat tree|fish"
).split("|")
CHINESE_VERBS = "修理 建造 清洗 出售 购买 设计 安装 种植 发明 训练 解释 比较 测试 驾驶 写 研究 做 选择 学 找".split()
CHINESE_THINGS = (
    "自行车 发动机 网站 沙发 小提琴 番茄 无人机 博客 合同 编译器 小说 花园 屋顶 相机 时钟 桥 公司 机器人 衬衫 笔记本电脑 辞职信 邮件 生日卡片 "
    "红烧肉 鱼香肉丝 帐篷 机票 打印机 密码 路由器"
).split()


def common_han() -> str:
    """The 3,755 level-1 characters of GB 2312 (rows 16 to 55), the everyday ones, in the standard's order."""
    cells = (bytes((row + 0xA0, cell + 0xA0)) for row in range(16, 56) for cell in range(1, 95))
    return b"".join(cells).decode("gb2312", errors="ignore")
